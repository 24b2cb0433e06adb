"""A plain payload, then one that trains with Ray: two launchers in one job.

The data stays where the payloads run: each writes a file and the next one reads it. Dagster gets
the path and the figures.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_glue import BashLauncher, ComputeResource
from ray_slurm_demo.site import GPUS_PER_NODE, PAYLOADS, launcher


@dg.asset(kinds={"python", "slurm"})
def dataset(context: dg.AssetExecutionContext, compute: ComputeResource) -> Iterator[Any]:
    """Points of a noisy line."""
    done = compute.run(
        context,
        payload_path=f"{PAYLOADS}/make_dataset.py --rows 400",
        launcher=BashLauncher(),
        extra_files=[f"{PAYLOADS}/demo_data.py"],
    )
    yield from done.get_results()


@dg.asset(deps=[dataset], kinds={"ray", "slurm"})
def model(context: dg.AssetExecutionContext, compute: ComputeResource) -> Iterator[Any]:
    """Fitted in shards, one Ray task each: on GPUs where nodes have some, else on CPUs."""
    done = compute.run(
        context,
        payload_path="python -m train.entrypoint",
        launcher=launcher(gpus_per_node=GPUS_PER_NODE),
        extras={"shards": 4, "gpus_per_shard": 1 if GPUS_PER_NODE else 0},
    )
    yield from done.get_results()


training = dg.define_asset_job("training", selection=[dataset, model])
