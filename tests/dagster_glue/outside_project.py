"""The Dagster project that the code server of :mod:`.outside` serves."""

import os
from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_glue import (
    ComputeResource,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
    SlurmSessionResource,
    SSHConnectionResource,
)

# Tells how far it is by a message every 50 ms, until the file `go` is there.
TALK = """
import os, sys, time

import ray
from dagster_pipes import open_dagster_pipes


@ray.remote
def chat():
    for i in range(300):
        print("a worker says", i, "x" * 1000)


folder = sys.argv[1]
with open(f"{folder}/started", "a") as file:
    file.write("started\\n")
with open_dagster_pipes() as pipes:
    ray.init(address="auto")
    talk = chat.remote()
    sent = 0
    while not os.path.exists(f"{folder}/go"):
        sys.stdout.write("\\r" + "#" * (sent % 70)); sys.stdout.flush()
        pipes.report_custom_message(sent)
        sent += 1
        time.sleep(0.05)
    pipes.report_custom_message("y" * 5_000_000)
    ray.get(talk)
    pipes.report_custom_message({"sent": sent})
"""
LARGE = "y" * 5_000_000


class Talk(dg.Config):
    payload: str
    folder: str
    slurm_opts: dict[str, str]


def _asset(name: str) -> dg.AssetsDefinition:
    @dg.asset(name=name, retry_policy=dg.RetryPolicy(max_retries=1), required_resource_keys={name})
    def asset(context: dg.AssetExecutionContext, config: Talk) -> Iterator[Any]:
        compute: ComputeResource = getattr(context.resources, name)
        done = compute.run(
            context, f"{config.payload} {config.folder}", extra_slurm_opts=config.slurm_opts
        )
        *numbers, large, last = done.get_custom_messages()
        assert numbers == list(range(last["sent"])), "lost, twice or out of order"
        assert large == LARGE
        yield from done.get_results()

    return asset


def _compute(mode: str, environ: dict[str, str]) -> ComputeResource:
    return ComputeResource(
        mode=mode,
        slurm=SlurmResource(
            ssh=SSHConnectionResource.from_env(prefix="SLURM_EDGE_NODE_"),
            queue=SlurmQueueConfig(partition="compute", time_limit="00:15:00", mem="800M"),
            remote_base=environ.get("OUTSIDE_BASE"),
        ),
        session=SlurmSessionResource(name="outside", cluster_idle_timeout=300),
        default_launcher=RayLauncher(num_cpus_per_node=1, max_workers=1, head_mem="1200M"),
    )


RESOURCES = {
    "in_session": _compute("slurm-session", dict(os.environ)),
    "on_its_own": _compute("slurm", dict(os.environ)),
}
defs = dg.Definitions(
    assets=[_asset(name) for name in RESOURCES],
    jobs=[dg.define_asset_job(f"{name}_job", selection=[name]) for name in RESOURCES],
    resources=RESOURCES,
)
