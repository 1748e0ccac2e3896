#!/bin/sh
# Before removal. An upgrade (deb: upgrade, rpm: 1) leaves the service running.
set -e
case "$1" in
remove | 0)
  if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
    systemctl disable --now streamer.service
  fi
  ;;
esac
