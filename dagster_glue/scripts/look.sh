#!/bin/sh
# Print a line for each file: its bytes from OFFSET on, at most MAX, in base64, because a transport's
# output is text; a blank; its size. A missing file has none.
# usage: sh -c "$(cat look.sh)" sh FOLDER MAX [NAME OFFSET]...
cd -- "$1" || exit 1
max=$2
shift 2
while [ $# -ge 2 ]; do
    size=0
    if [ -f "$1" ]; then size=$(wc -c < "$1"); fi
    if [ "$size" -gt "$2" ]; then
        tail -c +$(($2 + 1)) -- "$1" | head -c "$max" | base64 | tr -d '\n'
    fi
    echo " $((size))"
    shift 2
done
