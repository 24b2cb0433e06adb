#!/bin/bash
# What a user of an edge node types: ray up, a sweep, ray down. usage: tour.sh CONFIG
set -euo pipefail
config=$1
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() {
    say "$@"
    "$@"
}
export RAY_UP_enable_autoscaler_v2=1 # spares `ray up` a notice
# Ray tells a non-interactive shell about this in five lines otherwise.
export RAY_USAGE_STATS_ENABLED=0

# What an earlier tour may have left: its cluster, and the configuration that Ray keeps as the version
# of this project of that day resolved it (the first command that meets it removes it and fails).
ray down --yes "$config" > /dev/null 2>&1 || true

rm -f times.json

watch=
leave() {
    [ -z "$watch" ] || kill "$watch" 2> /dev/null || true
    run ray down --yes "$config"
}
trap leave EXIT
run ray up --yes "$config"
run ray-slurm status "$config"

python watch.py "$config" times.json growth.json &
watch=$!
run ray submit "$config" sweep.py -- "$PWD/times.json"
echo
echo "The sweep is over; idle workers leave after a while (idle_timeout_minutes in $config)."
wait "$watch"
run python timeline.py times.json growth.json

trap - EXIT
run ray down --yes "$config"
rm -f times.json growth.json
run squeue --me
