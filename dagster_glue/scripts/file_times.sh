#!/bin/sh
# Print when a file was written, after the time of now, both by the file server's clock.
# usage: sh -c "$(cat file_times.sh)" sh FOLDER FILE
clock=$(mktemp "$1/.clock.XXXXXX") || exit
trap 'rm -f "$clock"' EXIT
stat -c %Y -- "$clock" "$2"
