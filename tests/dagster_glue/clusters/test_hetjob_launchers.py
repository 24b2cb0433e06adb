"""Several launchers as the components of one cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from dagster_glue import (
    BashLauncher,
    ComputeResource,
    ConfigError,
    ExecutionMode,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
)
from dagster_glue.acquire import local_options
from dagster_glue.cluster_config import ClusterPlan, cluster_config
from dagster_glue.clusters.hetjob import component_size, components_in, together
from dagster_glue.launchers import Launcher
from slurm_provider import bootstrap

QUEUE = SlurmQueueConfig(partition="compute", time_limit="01:00:00", mem="8G")
CPU = RayLauncher(num_cpus_per_node=16, min_workers=2)
GPU = RayLauncher(num_gpus_per_node=4, slurm_opts={"partition": "gpu", "mem": "64G"})


def config(
    launchers: Mapping[str, Launcher] | Sequence[Launcher],
    queue: SlurmQueueConfig = QUEUE,
    **more: Any,
) -> dict[str, Any]:
    plan = ClusterPlan(
        "train-1", ExecutionMode.SLURM_HETJOB, together(launchers), queue, "~/c/train-1", **more
    )
    made = bootstrap.resolve(bootstrap.fillout(prepare_config(cluster_config(plan))))
    validate_config(made)  # Ray's own schema
    return made


def test_each_launcher_is_a_node_type_of_its_own_size_that_starts_with_the_head() -> None:
    made = config({"cpu": CPU, "gpu": GPU})
    assert made["provider"]["start_together"] is True
    assert made["provider"]["_nodes"]["min_workers"] == {"cpu": 2, "gpu": 1}
    types = made["available_node_types"]
    common = {"partition": "compute", "time": "01:00:00"}
    assert types["cpu"]["node_config"] == {**common, "cpus-per-task": "16", "mem": "8G"}
    assert types["gpu"]["node_config"] == {
        "partition": "gpu", "time": "01:00:00", "gpus-per-node": "4", "mem": "64G"
    }  # fmt: skip
    assert types["head"]["node_config"] == {**common, "cpus-per-task": "1", "mem": "4G"}
    assert (types["gpu"]["max_workers"], made["max_workers"]) == (1, 3)


def test_tasks_reach_a_component_by_its_resource_or_its_label() -> None:
    gpu = config({"cpu": CPU, "gpu": GPU})["available_node_types"]["gpu"]
    assert gpu["resources"]["gpu"] == 1
    assert gpu["labels"]["component-id"] == "gpu"


def test_launchers_may_carry_their_ids_themselves() -> None:
    launchers = [RayLauncher(component_id="a"), RayLauncher(component_id="b")]
    assert list(config(launchers)["available_node_types"]) == ["head", "a", "b"]


@pytest.mark.parametrize(
    ("launcher", "num_nodes", "size"),
    [
        (RayLauncher(), None, (1, 1)),
        (RayLauncher(), 4, (4, 4)),
        (RayLauncher(max_workers=3), 4, (1, 3)),
        (RayLauncher(min_workers=2), 4, (2, 2)),
        (RayLauncher(min_workers=2, max_workers=6), None, (2, 6)),
    ],
)
def test_a_component_is_as_large_as_its_launcher_says_or_else_the_queue(
    launcher: RayLauncher, num_nodes: int | None, size: tuple[int, int]
) -> None:
    assert component_size(launcher, num_nodes) == size


def test_the_head_s_memory_is_not_passed_on_to_components_that_ask_for_none() -> None:
    queue = SlurmQueueConfig(partition="compute")
    first = RayLauncher(head_cpus=2, head_mem="3001M")
    head = config({"cpu": first}, queue)["available_node_types"]["head"]["node_config"]
    assert head["mem-per-cpu"] == "1501M" and "mem" not in head


@pytest.mark.parametrize(
    ("launchers", "message"),
    [
        ({}, "there is no launcher"),
        ([CPU, GPU], "has no component_id"),
        ([RayLauncher(component_id="a"), RayLauncher(component_id="a")], "two launchers have"),
        ({"a": RayLauncher(component_id="b")}, "leave one of them out"),
        ({"a": BashLauncher()}, "BashLauncher is no RayLauncher"),
        ({"a": RayLauncher(ray_address="http://h:8265")}, "there is none to make"),
        ({"a": CPU, "b": RayLauncher(working_dir="x")}, "working_dir of component 'b' concerns"),
        ({"a": CPU, "b": RayLauncher(head_cpus=4)}, "set it on the first launcher .'a'."),
        ({"head": CPU}, "is the head's name"),
        ({"a": RayLauncher(min_workers=128)}, "are 129 nodes"),
        (
            {"a": RayLauncher(slurm_opts={"nice": 5}), "b": GPU},
            "'a' sets 'nice' and 'b' does not",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_submitted(
    launchers: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(launchers)


def test_what_the_first_launcher_says_of_the_cluster_the_others_may_repeat() -> None:
    first = RayLauncher(working_dir="x", head_cpus=2)
    launcher = together({"a": first, "b": RayLauncher(working_dir="x", head_cpus=2)})
    assert (launcher.working_dir, launcher.head_cpus) == ("x", 2)
    assert [component.component_id for component in components_in(launcher)] == ["a", "b"]


@pytest.mark.parametrize("mode", ["slurm", "slurm-session"])
def test_run_hetjob_is_for_mode_hetjob(mode: str) -> None:
    compute = ComputeResource(mode=mode, slurm=SlurmResource())
    with pytest.raises(dg.Failure, match="run_hetjob needs mode slurm-hetjob") as failure:
        compute.run_hetjob(None, "x.py", {"a": CPU})  # type: ignore[arg-type]
    assert failure.value.metadata["failure_kind"].value == "configuration"
    assert not failure.value.allow_retries


def test_a_local_runtime_has_the_resources_of_all_components() -> None:
    options = local_options([None, together({"cpu": CPU, "gpu": GPU})], cpus_here=4)
    assert options["ray_args"] == ('--resources={"cpu": 2, "gpu": 1}',)
    assert (options["num_cpus"], options["num_gpus"]) == (16, 4)


def test_a_local_runtime_has_the_label_of_the_only_component() -> None:
    options = local_options([RayLauncher(component_id="cpu")], cpus_here=4)
    assert options["ray_args"] == ('--resources={"cpu": 1}', "--labels=component-id=cpu")
