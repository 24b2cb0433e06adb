"""From node_config to sbatch options and the resources Ray plans with."""

from __future__ import annotations

from typing import Any

import pytest

from slurm_provider.agent.allocation import MB, ray_memory
from slurm_provider.errors import ConfigError
from slurm_provider.node_types import NodeType, custom_resources, read_node_type


def read(
    node_config: dict[str, Any], defaults: dict[str, Any] | None = None, **section: Any
) -> NodeType:
    return read_node_type("gpu", {"node_config": node_config, **section}, defaults or {})


@pytest.mark.parametrize(
    ("node_config", "resources"),
    [
        ({}, {"CPU": 1}),
        ({"cpus-per-task": 8}, {"CPU": 8}),
        ({"mem": "4G"}, {"CPU": 1, "memory": ray_memory(4096)[0]}),
        ({"cpus-per-task": 4, "mem-per-cpu": "1G"}, {"CPU": 4, "memory": ray_memory(4096)[0]}),
        ({"mem": 0}, {"CPU": 1}),
        ({"gres": "gpu:2"}, {"CPU": 1, "GPU": 2}),
        ({"gpus-per-node": "a100:4"}, {"CPU": 1, "GPU": 4, "accelerator_type:A100": 1}),
        ({"gres": "gpu:nvidia_h100_80gb:1,ssd:2"},
         {"CPU": 1, "GPU": 1, "accelerator_type:H100": 1}),
    ],
)  # fmt: skip
def test_resources_follow_from_what_slurm_is_asked_for(
    node_config: dict[str, Any], resources: dict[str, int]
) -> None:
    assert read(node_config).resources == resources


def test_a_users_smaller_figure_wins() -> None:
    found = read({"cpus-per-task": 8, "mem": "4G"}, resources={"CPU": 0, "memory": 100 * MB})
    assert found.resources == {"CPU": 0, "memory": 100 * MB}
    assert found.given == {"CPU": 0, "memory": 100 * MB}


def test_custom_resources_go_to_ray_as_they_are() -> None:
    found = read({"gres": "gpu:a100:1"}, resources={"GPU": 0, "license": 3})
    assert found.resources == {"GPU": 0, "license": 3, "CPU": 1}
    assert custom_resources(found.resources) == {"license": 3}


def test_a_node_type_may_change_and_switch_off_a_default() -> None:
    defaults = {"partition": "compute", "mem": "2G", "account": "a"}
    found = read({"partition": "gpu", "mem": False, "mem-per-cpu": "1G"}, defaults)
    assert found.options["partition"] == "gpu"
    assert found.options["account"] == "a"
    assert found.resources["memory"] == ray_memory(1024)[0]


def test_memory_without_a_limit_of_slurms_cannot_be_judged() -> None:
    assert read({}, resources={"memory": 10**15}).resources["memory"] == 10**15


REFUSALS: list[tuple[dict[str, Any], list[str]]] = [
    ({"node_config": {"partion": "x"}}, ["node_config of 'gpu'", "'partion'", "'partition'"]),
    ({"node_config": {"nodes": 2}}, ["node_config of 'gpu'", "nodes", "2", "only 1"]),
    ({"node_config": {"array": "0-3"}}, ["node_config of 'gpu'", "'array'", "max_workers"]),
    ({"node_config": {"mem": "4 GB"}}, ["node_config of 'gpu'", "mem", "'4 GB'", "4G"]),
    ({"node_config": {"time": 3600}}, ["node_config of 'gpu'", "time", "3600", "quote it"]),
    ({"node_config": {"mem": "1G", "mem-per-cpu": "1G"}}, ["'mem'", "'mem-per-cpu'", "exclude"]),
    ({"node_config": {"cpus-per-task": 4}, "resources": {"CPU": 8}},
     ["resources of 'gpu'", "CPU 8", "cpus-per-task: 4"]),
    ({"node_config": {}, "resources": {"GPU": 1}},
     ["resources of 'gpu'", "GPU 1", "no gres or gpus-per-node"]),
    ({"node_config": {"mem": "1G"}, "resources": {"memory": 2**31}},
     ["resources of 'gpu'", "memory 2147483648", f"mem: {ray_memory(1024)[0]}"]),
    ({"node_config": {}, "labels": {"team": "a b"}}, ["labels of 'gpu'", "'team'", "'a b'"]),
    ({"node_config": {}, "labels": {"a,b": "c"}}, ["labels of 'gpu'", "'a,b'", "'c'"]),
    ({"node_config": {}, "labels": {"k": "a=b"}}, ["labels of 'gpu'", "'k'", "'a=b'"]),
]  # fmt: skip


@pytest.mark.parametrize(("section", "parts"), REFUSALS, ids=[str(r[0]) for r in REFUSALS])
def test_a_refusal_names_the_type_the_key_and_what_is_allowed(
    section: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        read_node_type("gpu", section, {})
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize("defaults", [{"partion": "x"}, {"mem": "1G", "mem-per-cpu": "1G"}])
def test_a_mistake_in_the_defaults_is_told_as_one_of_the_defaults(
    defaults: dict[str, Any],
) -> None:
    with pytest.raises(ConfigError, match=r"^provider\.defaults: "):
        read({"cpus-per-task": 1}, defaults=defaults)


def test_what_clashes_with_the_defaults_is_told_of_the_type() -> None:
    with pytest.raises(ConfigError, match=r"^node_config of 'gpu': .*comes from the defaults"):
        read({"mem": "1G"}, defaults={"mem-per-cpu": "1G"})


@pytest.mark.parametrize("name", ["gpu node", "a:b", "", "$(rm)", "gpu-"])
def test_a_name_that_cannot_travel_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"available_node_types: .* use letters, digits"):
        read_node_type(name, {"node_config": {}}, {})


@pytest.mark.parametrize(
    "labels", [{"team": "physics"}, {"site.org/rack": "r-1.2_x"}, {"ray.io/market-type": "spot"}]
)
def test_labels_that_ray_accepts_are_kept(labels: dict[str, str]) -> None:
    from ray._private.label_utils import validate_node_label_syntax

    validate_node_label_syntax(labels)
    assert read({}, labels=labels).labels == labels


def test_the_planned_memory_is_what_the_node_will_report() -> None:
    """A node that reports less than planned makes the autoscaler launch for ever."""
    from slurm_provider.agent.allocation import read_allocation

    cases: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"mem": "3G"}, {"SLURM_MEM_PER_NODE": "3072"}),
        ({"cpus-per-task": 3, "mem-per-cpu": "700M"},
         {"SLURM_CPUS_ON_NODE": "3", "SLURM_MEM_PER_CPU": "700"}),
        ({"gpus": 2, "mem-per-gpu": "5G"},
         {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_MEM_PER_GPU": "5120"}),
    ]  # fmt: skip
    for node_config, environ in cases:
        allocation = read_allocation(
            environ, host="n", host_cpus=1, host_memory_mb=1, now=0, time_limit_s=None
        )
        reported = ray_memory(allocation.memory_mb, shm_free_mb=100)[0]
        assert read(node_config).resources["memory"] == reported
