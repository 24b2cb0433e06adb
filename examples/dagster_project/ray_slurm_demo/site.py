"""Where the payloads run. RAY_SLURM_MODE chooses: local (default), slurm, slurm-session or
slurm-hetjob. The other variables matter only on Slurm."""

import os
from pathlib import Path

from dagster_glue import (
    ComputeResource,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
    SSHConnectionResource,
)

PAYLOADS = Path(__file__).parents[1] / "payloads"

GPUS_PER_NODE = int(os.environ.get("SLURM_GPUS_PER_NODE", "0"))


def compute_from_env() -> ComputeResource:
    # Without a host, Slurm's commands are those of this machine.
    has_edge_node = "SLURM_EDGE_NODE_HOST" in os.environ
    return ComputeResource(
        mode=os.environ.get("RAY_SLURM_MODE", "local"),
        slurm=SlurmResource(
            ssh=SSHConnectionResource.from_env("SLURM_EDGE_NODE_") if has_edge_node else None,
            queue=SlurmQueueConfig(
                partition=os.environ.get("SLURM_PARTITION"),
                account=os.environ.get("SLURM_ACCOUNT"),
                time_limit=os.environ.get("SLURM_TIME", "00:30:00"),
                mem=os.environ.get("SLURM_MEM", "2G"),
            ),
        ),
        default_launcher=launcher(),
        enable_cluster_reuse=True,
        # The environment of the jobs; without it, what a login shell on the cluster has.
        pre_deployed_env_path=os.environ.get("SLURM_ENV_PATH"),
    )


def launcher(gpus_per_node: int = 0) -> RayLauncher:
    """Up to four workers of one CPU, which come and go with the work; the payloads go along."""
    return RayLauncher(
        num_cpus_per_node=1,
        num_gpus_per_node=gpus_per_node,
        max_workers=4,
        head_mem="1500M",
        working_dir=str(PAYLOADS),
    )
