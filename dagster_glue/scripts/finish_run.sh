#!/bin/sh
# Mark a run as over and drop runs that have been over for long, in the folder of all runs.
# usage: sh -c "$(cat finish_run.sh)" sh FOLDER done|failed ASKED DONE_DAYS FAILED_DAYS SILENT_DAYS
# ASKED is the file by which nodes were asked for their logs, or empty.
folder=$1 outcome=$2 asked=$3 done_days=$4 failed_days=$5 silent_days=$6
cd -- "$folder" || exit 0
if [ "$outcome" = "done" ]; then
    [ -z "$asked" ] || rm -f -- "$asked"
    rm -rf ray
fi
: > "$outcome"
cd ..
{
    find . -mindepth 2 -maxdepth 2 -name "done" -mtime +"$done_days"
    find . -mindepth 2 -maxdepth 2 -name failed -mtime +"$failed_days"
} | while IFS= read -r marker; do
    rm -rf -- "$(dirname "$marker")"
done
# Runs whose Dagster process never came back; their job may still write.
find . -mindepth 1 -maxdepth 1 -type d -mtime +"$silent_days" | while IFS= read -r run; do
    [ -n "$(find "$run" -type f -mtime -"$silent_days" | head -n 1)" ] || rm -rf -- "$run"
done
