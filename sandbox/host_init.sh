#!/bin/sh
# Process 1 of a compute host, in fresh network, UTS, mount and PID namespaces.
# $1: host name, $2: folder for its /tmp, $3: size of its /dev/shm in MB
set -eu
hostname "$1"
mount -t proc proc /proc
mount --bind "$2" /tmp
mount -t tmpfs -o "mode=1777,size=$3m" "shm-$1" /dev/shm
# No name server can be reached from here; each lookup, as slurmd 24.11 makes at its start, would
# wait 10 s for one.
[ ! -e /etc/resolv.conf ] || mount --bind /dev/null /etc/resolv.conf
# With SIGCHLD ignored the kernel buries the host's orphans by itself.
exec env --ignore-signal=CHLD sleep infinity
