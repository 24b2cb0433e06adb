#!/bin/sh
# Print a line for each file: its bytes from OFFSET on, at most MAX, in base64, because a transport's
# output is text; a blank; its size. A missing file has none.
# While all are as long as their offsets, it looks again up to ROUNDS times, PAUSE seconds apart; where
# a file system shows sizes late, so often. Names are without blanks.
# usage: sh -c "$(cat look.sh)" sh FOLDER MAX ROUNDS PAUSE [NAME OFFSET]...
if ! cd -- "$1"; then
    [ -e "$1" ] || [ ! -d "$(dirname -- "$1")" ] || exit 3 # it was removed
    exit 1
fi
max=$2 rounds=$3 pause=$4
shift 4
names='' read='' is_name=true
for word; do
    if $is_name; then
        names="$names $word" is_name=false
    else
        read="${read:+$read
}$word" is_name=true
    fi
done
# shellcheck disable=SC2086 # words are wanted
while [ "$rounds" -gt 0 ] && [ "$(stat -c %s -- $names 2> /dev/null)" = "$read" ]; do
    sleep "$pause"
    rounds=$((rounds - 1))
done
while [ $# -ge 2 ]; do
    size=0
    if [ -f "$1" ]; then size=$(wc -c < "$1"); fi
    if [ "$size" -gt "$2" ]; then
        tail -c +$(($2 + 1)) -- "$1" | head -c "$max" | base64 | tr -d '\n'
    fi
    echo " $((size))"
    shift 2
done
