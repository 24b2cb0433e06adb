#!/bin/bash -l
# One Slurm job = one Ray node. A login shell, so that `module` and conda exist for the activation.
# usage: node.sh CLUSTER_DIR CODE LAUNCH [INDEX]
# Long names, because the user's lines may set variables of their own.
ray_slurm_cluster_dir=$1
ray_slurm_code=$2
ray_slurm_launch=$3
ray_slurm_index=$4 # of a node that is no task of an array, and not the first of its launch
# In spite of --no-requeue, seen with Slurm 22.05 after a power loss.
if [ "${SLURM_RESTART_COUNT:-0}" != 0 ]; then
    echo "[job] Slurm requeued this job, but its Ray node has ended: for another head run ray up again, workers Ray asks for itself" >&2
    exit 1
fi
printf -v RAY_SLURM_STARTED '%(%s)T' -1 # the time limit counts from here, not from the activation's end
export RAY_SLURM_STARTED
unset LC_ALL # sbatch ran in the C locale, so that its answers can be read
if [ ! -d "$ray_slurm_cluster_dir/launches" ]; then
    echo "[job] $ray_slurm_cluster_dir is not visible on $HOSTNAME: provider.cluster_dir must be shared" >&2
    exit 1
fi
# Shell lines from provider.environment, as the user wrote them.
# shellcheck source=/dev/null
. "$ray_slurm_cluster_dir/launches/$ray_slurm_launch.activate" || {
    echo "[job] activating the environment failed (provider.environment)" >&2
    exit 1
}
if ! command -v python3 > /dev/null; then
    echo "[job] there is no python3 on PATH of $HOSTNAME after activating the environment" >&2
    exit 1
fi
# exec: Slurm's --signal=B: goes to the batch process, which must be the agent.
exec python3 "$ray_slurm_code" node "$ray_slurm_cluster_dir" "$ray_slurm_launch" \
    ${ray_slurm_index:+"$ray_slurm_index"}
