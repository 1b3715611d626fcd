#!/bin/sh
# After a removal. The state is a copy of the group table, which a new start reads again.
set -e
if [ "$1" = purge ]; then
	rm -rf "$DPKG_ROOT/var/lib/tollstream" "$DPKG_ROOT/var/lib/private/tollstream"
fi
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
