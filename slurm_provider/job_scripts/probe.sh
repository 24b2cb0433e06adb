#!/bin/bash -l
# The job of `ray-slurm check`: starts like a node (see node.sh), then looks around instead.
# usage: probe.sh FOLDER CODE listen|connect
ray_slurm_folder=$1
ray_slurm_code=$2
ray_slurm_mode=$3
unset LC_ALL
# shellcheck source=/dev/null
. "$ray_slurm_folder/activate" || {
    echo "activating the environment failed (provider.environment)" >&2
    exit 1
}
if ! command -v python3 > /dev/null; then
    echo "there is no python3 on PATH of $HOSTNAME after activating the environment" >&2
    exit 1
fi
export PYTHONPATH="$ray_slurm_code${PYTHONPATH:+:$PYTHONPATH}"
exec python3 -m slurm_provider.agent.probe "$ray_slurm_folder" "$ray_slurm_mode"
