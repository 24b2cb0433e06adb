"""The same search by Ray Tune: one run, in which Ray spreads the trials over its workers."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_glue import ComputeResource


@dg.asset(deps=["dataset"], kinds={"ray", "slurm"})
def tuned_model(context: dg.AssetExecutionContext, compute: ComputeResource) -> Iterator[Any]:
    """The best of a random search."""
    done = compute.run(context, payload_path="tune_search.py", extras={"trials": 4})
    yield from done.get_results()
