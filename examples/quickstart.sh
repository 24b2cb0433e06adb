#!/bin/bash
# From nothing to a Ray Tune sweep on a real multi-host Slurm, all on this machine, and back.
# usage: sudo examples/quickstart.sh      (Debian 12 or 13, Ubuntu 22.04 or 24.04)
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
    echo "The sandbox makes network namespaces and needs root: sudo $0" >&2
    exit 1
fi
prefix=$(bash sandbox/environment.sh quickstart . 'ray[default,tune]')

# A sandbox that is up already stays up, with the Python environment it has.
was_up=no
python3 -m sandbox info --json > /dev/null 2>&1 && was_up=yes
leave() {
    trap - EXIT
    [ "$was_up" = yes ] || python3 -m sandbox down
}
trap leave EXIT
python3 -m sandbox up --env "$prefix"

# As an ordinary user of the edge node, with nothing but these files.
home=$(python3 -m sandbox info --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["users"]["user1"]["home"])')
install -o user1 -g user1 -m 644 -t "$home" cluster-configs/sandbox.yaml examples/quickstart/*.py
install -o user1 -g user1 -m 755 -t "$home" examples/quickstart/tour.sh
python3 -m sandbox run --user user1 -- ./tour.sh sandbox.yaml
