#!/bin/sh
# After removal. The user stays, because files may still belong to it. The slot
# stays too: only the operator knows whether it is still needed.
set -e
case "$1" in
remove | 0)
  if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
  fi
  echo "streamer is removed, but not its replication slot, which keeps WAL on the PostgreSQL server." >&2
  echo "fix: if no other streamer uses it, SELECT pg_drop_replication_slot('streamer')" >&2
  ;;
esac
