#!/bin/sh
# Put the ends of a cluster's logs together in one file, in a folder marked as a failed run's, so
# that it is dropped with them. Prints "kept" if there were any.
# usage: sh -c "$(cat keep_start_logs.sh)" sh LOGS FOLDER NAME BYTES
cd -- "$1" 2> /dev/null && ls ./*.log > /dev/null 2>&1 || exit 0
umask 077
mkdir -p -- "$2" && for log in ./*.log; do
    echo "==> $log" && tail -c "$4" "$log"
done > "$2/$3" && : > "$2/failed" && echo kept
