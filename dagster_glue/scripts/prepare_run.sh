#!/bin/sh
# Make a run's folder of the archive on standard input, ask nodes to keep their logs for it (by the
# file ASKED, unless that is empty), and make the files that are read later: an NFS client remembers
# for a minute that a name was missing. They are opened for appending, so that a second process that
# prepares the same run does not take away what the first one's job has written.
# usage: sh -c "$(cat prepare_run.sh)" sh FOLDER ASKED NAME...
umask 077
mkdir -p -- "$1" && cd -- "$1" && tar -xf - && rm -f "done" failed || exit
if [ -n "$2" ]; then
    mkdir -p -- "$(dirname "$2")" && printf %s "$1" > "$2.new" && mv -- "$2.new" "$2" || exit
fi
shift 2 && for name; do : >> "$name" || exit; done
