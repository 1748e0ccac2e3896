#!/bin/sh
# After installation and upgrade of the deb and of the rpm. DPKG_ROOT is set where
# dpkg installs into another system's folder.
set -e
root="${DPKG_ROOT:-}"

# systemd creates the user; a container without systemd has no service to run.
if command -v systemd-sysusers >/dev/null 2>&1; then
  systemd-sysusers --root="$root/" streamer.conf
elif ! grep -q '^streamer:' "$root/etc/passwd"; then
  useradd --root "$root/" --system --home-dir /var/lib/streamer --shell /usr/sbin/nologin streamer
fi
# The configuration may hold a password.
group=$(grep '^streamer:' "$root/etc/group" | cut -d : -f 3)
chown "0:$group" "$root/etc/streamer" "$root/etc/streamer/streamer.yaml"

if [ -z "$root" ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # A graceful stop repeats nothing, so an upgrade restarts a running service. It
  # starts no other: a new installation has no servers to connect to yet.
  systemctl try-restart streamer.service
fi
