"""The Dagster process of our side: ``python -m benchmarks.dagster_ours_process PLAN``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.dagster_chain import run_chain
from dagster_glue import (
    ComputeResource,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
    SlurmSessionResource,
    SSHConnectionResource,
)


def compute_of(plan: dict[str, Any]) -> ComputeResource:
    """Two worker nodes of two CPUs, and a head beside them, which takes no tasks."""
    edge = plan["edge"]
    return ComputeResource(
        mode=plan["mode"],
        slurm=SlurmResource(
            ssh=SSHConnectionResource(
                host=edge["host"],
                port=edge["port"],
                user=edge["user"],
                key_path=edge["key_path"],
                known_hosts=edge["known_hosts"],
                config_path="",
            ),
            queue=SlurmQueueConfig(
                partition="compute", time_limit="00:10:00", cpus=2, mem="2500M", num_nodes=2
            ),
            remote_base=plan["base"],
        ),
        session=SlurmSessionResource(name=plan["name"], cluster_idle_timeout=300),
        pre_deployed_env_path=plan["environment"],
        default_launcher=RayLauncher(min_workers=2, max_workers=2, head_mem="1500M"),
    )


def main(path: str) -> None:
    plan = json.loads(Path(path).read_text())

    def run(context: Any, compute: ComputeResource, env: dict[str, str]) -> Any:
        # By extras: `extra_env` reaches all tasks, for which Ray makes an environment on each node.
        there = None if plan["uploads"] else plan["payload"]
        return compute.run(context, plan["payload"], remote_payload_path=there, extras=env)

    run_chain(plan, compute_of(plan), run)


if __name__ == "__main__":
    main(sys.argv[1])
