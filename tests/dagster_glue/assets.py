"""Assets as the reference document has them (its context annotations rule out postponed ones)."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_glue import BashLauncher, ComputeResource, RayLauncher


def train_model(**launcher: Any) -> dg.AssetsDefinition:
    """The reference's asset; ``launcher`` changes its RayLauncher."""

    @dg.asset(name="train_model", required_resource_keys={"compute"})
    def train(context: dg.AssetExecutionContext) -> Iterator[Any]:
        ray_launcher = RayLauncher(
            **{"num_cpus_per_node": 1, "num_gpus_per_node": 1, **launcher},
            working_dir="ray_jobs/train_model",
        )
        completed = context.resources.compute.run(
            context=context,
            payload_path="python -m train.entrypoint",
            launcher=ray_launcher,
            extra_env={"WANDB_MODE": "offline"},
            extras={"experiment": context.run.run_id},
        )
        yield from completed.get_results()

    return train


def plain(*arguments: str) -> dg.AssetsDefinition:
    """A script with arguments and a file beside it, by the Bash launcher."""

    @dg.asset(name="plain")
    def asset(context: dg.AssetExecutionContext, compute: ComputeResource) -> Any:
        completed = compute.run(
            context,
            " ".join(["plain.py", *arguments]),
            launcher=BashLauncher(),
            extra_env={"GREETING": "hello you"},
            extra_files=["beside.py"],
        )
        return completed.get_materialize_result()

    return asset


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What the asset's one materialization says."""
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def failure_of(result: dg.ExecuteInProcessResult, asset: str) -> dg.Failure:
    """What the asset's step raised on purpose."""
    data = result.failure_data_for_node(asset)
    assert data is not None and data.user_failure_data is not None, data
    failure = data.user_failure_data
    return dg.Failure(failure.description, metadata=failure.metadata)
