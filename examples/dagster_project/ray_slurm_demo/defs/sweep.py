"""A hyper-parameter sweep as partitions: each trial is a run of its own, with its own history."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_glue import ComputeResource

learning_rates = dg.StaticPartitionsDefinition(["0.001", "0.01", "0.1"])


@dg.asset(deps=["dataset"], partitions_def=learning_rates, kinds={"ray", "slurm"})
def trial(context: dg.AssetExecutionContext, compute: ComputeResource) -> Iterator[Any]:
    """The loss with one learning rate, cross-validated by Ray tasks."""
    yield from compute.run(context, payload_path="sweep.py --folds 4").get_results()
