"""The Dagster process of the peer's side, in an environment that has ``dagster-slurm``:
``python -m benchmarks.dagster_peer_process PLAN``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dagster_slurm import (  # type: ignore[import-not-found,unused-ignore]  # only there
    ComputeResource,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
    SSHConnectionResource,
)

from benchmarks.dagster_chain import run_chain


def _compute(plan: dict[str, Any]) -> ComputeResource:
    """Two nodes of two CPUs; its head is one of them."""
    edge = plan["edge"]
    return ComputeResource(
        mode="slurm",
        allocation_scope=plan["mode"],
        slurm=SlurmResource(
            ssh=SSHConnectionResource(
                host=edge["host"],
                port=edge["port"],
                user=edge["user"],
                key_path=edge["key_path"],
                known_hosts_file=edge["known_hosts"],
            ),
            queue=SlurmQueueConfig(
                partition="compute", time_limit="00:10:00", cpus=2, mem="2500M", num_nodes=2
            ),
            remote_base=plan["base"],
        ),
        pre_deployed_env_path=plan["environment"],
        # Else it calls uuidgen, which not every host has.
        default_launcher=RayLauncher(redis_password="unused"),
    )


def main(path: str) -> None:
    plan = json.loads(Path(path).read_text())
    run_chain(
        plan,
        _compute(plan),
        lambda context, compute, env: compute.run(
            context=context, payload_path=plan["payload"], extra_env=env
        ),
    )


if __name__ == "__main__":
    main(sys.argv[1])
