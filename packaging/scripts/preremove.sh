#!/bin/sh
# Before a removal, which dpkg calls remove and rpm 0; an upgrade leaves the services running.
set -e
case "$1" in
remove | 0)
	if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
		systemctl disable --now tollstream-process.service tollstream-view.service
	fi
	;;
esac
