#!/bin/sh
# After a removal. The state is a copy of the group table, which a new start reads again. A purge takes the secrets too that
# docs/install.md puts there.
set -e
if [ "$1" = purge ]; then
	rm -rf "$DPKG_ROOT/var/lib/tollstream" "$DPKG_ROOT/var/lib/private/tollstream"
	rm -f "$DPKG_ROOT/etc/tollstream/token" "$DPKG_ROOT/etc/tollstream/environment"
	rmdir "$DPKG_ROOT/etc/tollstream" 2>/dev/null || true
fi
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
