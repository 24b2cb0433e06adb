"""What the glue describes, as the provider's own checks complete it."""

from __future__ import annotations

from typing import Any

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from dagster_glue import BashLauncher, ConfigError, ExecutionMode, RayLauncher, SlurmQueueConfig
from dagster_glue.cluster_config import (
    UNBOUNDED_WORKERS,
    ClusterPlan,
    RunNeeds,
    cluster_config,
    run_needs,
)
from dagster_glue.clusters.hetjob import together
from dagster_glue.launchers import Launcher
from slurm_provider import bootstrap

QUEUE = SlurmQueueConfig(partition="compute", qos="normal", time_limit="01:00:00")


def config(launcher: Launcher, queue: SlurmQueueConfig = QUEUE, **more: Any) -> dict[str, Any]:
    mode = more.pop("mode", ExecutionMode.SLURM)
    needs = run_needs({}, more.pop("slurm_opts", {}))
    plan = ClusterPlan("train-1", mode, launcher, queue, "~/base/clusters/train-1", needs, **more)
    made = bootstrap.resolve(bootstrap.fillout(prepare_config(cluster_config(plan))))
    validate_config(made)  # Ray's own schema
    return made


def worker(made: dict[str, Any]) -> dict[str, Any]:
    return dict(made["available_node_types"]["worker"])


def test_the_reference_s_launcher_gets_workers_of_its_size_and_a_small_head_without_tasks() -> None:
    made = config(RayLauncher(num_cpus_per_node=32, num_gpus_per_node=4, ray_version="2.9.3"))
    common = {"partition": "compute", "qos": "normal", "time": "01:00:00"}
    assert worker(made)["node_config"] == {**common, "cpus-per-task": "32", "gpus-per-node": "4"}
    assert (worker(made)["resources"]["CPU"], worker(made)["resources"]["GPU"]) == (32, 4)
    head = made["available_node_types"]["head"]
    assert head["node_config"] == {**common, "cpus-per-task": "1", "mem": "4G"}
    assert head["resources"]["CPU"] == 0


@pytest.mark.parametrize(
    ("max_workers", "num_nodes", "expected"),
    [(5, None, 5), (5, 3, 5), (None, 3, 3), (None, None, UNBOUNDED_WORKERS)],
)
def test_the_launcher_bounds_the_workers_before_the_queue_does(
    max_workers: int | None, num_nodes: int | None, expected: int
) -> None:
    made = config(RayLauncher(max_workers=max_workers), SlurmQueueConfig(num_nodes=num_nodes))
    assert (worker(made)["max_workers"], made["max_workers"]) == (expected, expected)


def test_bash_payloads_get_a_head_of_the_queue_s_size_and_nothing_else() -> None:
    queue = SlurmQueueConfig(partition="compute", cpus=2, mem="2G", gpus_per_node=1)
    made = config(BashLauncher(), queue)
    assert list(made["available_node_types"]) == ["head"]
    head = made["available_node_types"]["head"]
    assert head["node_config"] == {
        "partition": "compute", "cpus-per-task": "2", "mem": "2G", "gpus-per-node": "1"
    }  # fmt: skip
    assert made["max_workers"] == 0


def test_bash_payloads_do_not_spread_over_hosts() -> None:
    with pytest.raises(ConfigError, match="runs on one host"):
        config(BashLauncher(), slurm_opts={"nodes": 2})


def test_bash_payloads_stay_below_the_most_workers_that_the_queue_allows() -> None:
    assert config(BashLauncher(), SlurmQueueConfig(num_nodes=4))["max_workers"] == 0


@pytest.mark.parametrize(
    ("max_workers", "mode", "expected"),
    [
        (None, ExecutionMode.SLURM, (0, 2)),
        (5, ExecutionMode.SLURM, (0, 2)),
        (5, ExecutionMode.SLURM_HETJOB, (2, 2)),
    ],
)
def test_the_run_s_number_of_nodes_comes_before_those_of_launcher_and_queue(
    max_workers: int | None, mode: ExecutionMode, expected: tuple[int, int]
) -> None:
    made = worker(
        config(
            RayLauncher(max_workers=max_workers), SlurmQueueConfig(num_nodes=3),
            mode=mode, slurm_opts={"num_nodes": 2},
        )
    )  # fmt: skip
    assert (made["min_workers"], made["max_workers"]) == expected


def test_a_run_s_number_of_nodes_is_refused_where_components_would_share_it() -> None:
    launchers = together({"a": RayLauncher(), "b": RayLauncher()})
    with pytest.raises(ConfigError, match="give min_workers to each launcher"):
        config(launchers, mode=ExecutionMode.SLURM_HETJOB, slurm_opts={"nodes": 2})


@pytest.mark.parametrize(
    ("requirements", "extra", "expected"),
    [
        ({"nodes": 4}, {"num_nodes": 2}, RunNeeds({}, 2)),
        ({"nodes": 4}, {"cpus": 2}, RunNeeds({"cpus-per-task": "2"}, 4)),
        ({"cpus-per-task": 2}, {"cpus": 8}, RunNeeds({"cpus-per-task": "8"})),
        ({"mem": "4096M"}, {"mem_per_cpu": "1G"}, RunNeeds({"mem-per-cpu": "1G"})),
        ({"gpus-per-node": 2}, {"gres": "gpu:a100:1"}, RunNeeds({"gres": "gpu:a100:1"})),
        ({"gpus-per-node": False}, {}, RunNeeds({"gpus-per-node": False})),
        ({"mem": "1G"}, {"mem": False}, RunNeeds({"mem": False})),
    ],
)
def test_extra_slurm_opts_come_before_resource_requirements_by_whichever_name(
    requirements: dict[str, Any], extra: dict[str, Any], expected: RunNeeds
) -> None:
    assert run_needs(requirements, extra) == expected


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"partitoin": "x"}, "closest: 'partition'"),
        ({"nodes": 1, "num_nodes": 2}, "'nodes' and 'num_nodes' are one option"),
        ({"cpus": 1, "cpus-per-task": 2}, "are one option"),
        ({"num_nodes": 0}, "extra_slurm_opts: 0 is not a number of nodes"),
        ({"mem": "1G", "mem_per_cpu": "1G"}, "exclude each other"),
    ],
)
def test_what_a_run_cannot_ask_for_is_refused(extra: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run_needs({}, extra)


def test_options_of_the_run_come_before_launcher_and_queue() -> None:
    queue = SlurmQueueConfig(partition="compute", mem="8G", gres="gpu:a100:1,shard:2", cpus=2)
    launcher = RayLauncher(num_cpus_per_node=4, num_gpus_per_node=2)
    made = config(launcher, queue, slurm_opts={"mem_per_cpu": "1G", "cpus_per_task": 8, "nodes": 2})
    assert worker(made)["node_config"] == {
        "partition": "compute",
        "mem-per-cpu": "1G",
        "cpus-per-task": "8",
        "gres": "shard:2",
        "gpus-per-node": "a100:2",
    }
    assert worker(made)["max_workers"] == 2


def test_the_run_s_gpus_take_the_place_of_the_launcher_s() -> None:
    made = config(RayLauncher(num_gpus_per_node=2), slurm_opts={"gres": "gpu:h100:1"})
    assert worker(made)["node_config"]["gres"] == "gpu:h100:1"
    assert "gpus-per-node" not in worker(made)["node_config"]


def test_no_gpus_for_the_launcher_means_none() -> None:
    queue = SlurmQueueConfig(gres="gpu:a100:2")
    assert "gres" not in worker(config(RayLauncher(num_gpus_per_node=0), queue))["node_config"]


def test_the_head_may_differ_from_the_workers() -> None:
    launcher = RayLauncher(
        head_cpus=2, head_mem="2G", head_slurm_opts={"partition": "cpu", "qos": False}
    )
    head = config(launcher)["available_node_types"]["head"]["node_config"]
    assert head["partition"] == "cpu"
    assert "qos" not in head
    assert (head["cpus-per-task"], head["mem"]) == ("2", "2G")


def test_a_component_is_found_by_a_resource_and_a_label_of_its_name() -> None:
    made = config(RayLauncher(component_id="gpu-stage", num_gpus_per_node=1))
    component = made["available_node_types"]["gpu-stage"]
    assert component["resources"]["gpu-stage"] == 1
    assert component["labels"]["component-id"] == "gpu-stage"


def test_ray_s_arguments_and_the_head_s_address_reach_ray_start_quoted() -> None:
    launcher = RayLauncher(
        ray_args=["--include-dashboard=true", "--labels=a=b c"], head_node_address="10.0.0.1"
    )
    assert config(launcher)["head_start_ray_commands"] == [
        "ray start --head --autoscaling-config=~/ray_bootstrap_config.yaml "
        "--include-dashboard=true '--labels=a=b c' --node-ip-address=10.0.0.1"
    ]


@pytest.mark.parametrize(
    ("launcher", "mode", "minutes"),
    [
        (RayLauncher(), ExecutionMode.SLURM, 1),
        (RayLauncher(), ExecutionMode.SLURM_SESSION, 5),
        (RayLauncher(idle_timeout=90), ExecutionMode.SLURM_SESSION, 1.5),
    ],
)
def test_idle_workers_leave_after_the_launcher_s_or_the_mode_s_time(
    launcher: RayLauncher, mode: ExecutionMode, minutes: float
) -> None:
    assert config(launcher, mode=mode)["idle_timeout_minutes"] == minutes


def test_the_provider_is_told_where_things_are_and_how_to_get_there() -> None:
    made = config(
        RayLauncher(object_store_memory_gb=0.5),
        ssh={"host": "edge", "user": "user1"},
        environment={"prefix": "/opt/env"},
        provider_options={"network": "ib0", "tls": True},
    )["provider"]
    assert made["ssh"] == {"host": "edge", "user": "user1"}
    assert made["environment"] == {"prefix": "/opt/env"}
    assert (made["network"], made["tls"], made["object_store_memory_mb"]) == ("ib0", True, 512)
    assert made["cluster_dir"] == "~/base/clusters/train-1"


@pytest.mark.parametrize(
    ("launcher", "more", "words"),
    [
        (RayLauncher(), {"provider_options": {"cluster_dir": "/x"}}, "set by the glue"),
        (RayLauncher(), {"provider_options": {"netwrok": "ib0"}}, "closest: 'network'"),
        (RayLauncher(), {"slurm_opts": {"partitoin": "x"}}, "closest: 'partition'"),
        (RayLauncher(), {"slurm_opts": {"nodes": "two"}}, "not a number of nodes"),
        (RayLauncher(ray_address="http://h:1"), {}, "none to make"),
        (RayLauncher(min_workers=3), {"slurm_opts": {"nodes": 2}}, "more than"),
        (RayLauncher(component_id="head"), {}, "the head's name"),
        (RayLauncher(component_id="a b"), {}, "node type's name"),
    ],
)
def test_what_cannot_be_is_refused(launcher: Launcher, more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(launcher, **more)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_worker": 2}, "closest: max_workers"),
        ({"ray_start_args": ["--x"]}, "closest: ray_args"),
        ({"min_workers": 3, "max_workers": 2}, "more than max_workers"),
        ({"ray_args": ["include-dashboard"]}, "not an option"),
        ({"head_mem": "4 gigs"}, "RayLauncher.head_mem: mem: .4 gigs. is not a memory size"),
        ({"working_dir": "x", "runtime_env": {"working_dir": "y"}}, "give it once"),
        ({"head_slurm_opts": {"nodes": 2}}, "only 1"),
        ({"num_cpus_per_node": 0}, "at least 1"),
    ],
)
def test_a_launcher_that_cannot_be_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RayLauncher(**values)
