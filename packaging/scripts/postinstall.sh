#!/bin/sh
# After an install or an upgrade. An install starts nothing: the services need settings first.
set -e
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart tollstream-process.service tollstream-view.service
fi
