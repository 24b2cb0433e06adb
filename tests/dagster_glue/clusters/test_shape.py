"""Who shares a cluster with whom."""

from __future__ import annotations

from typing import Any

import pytest

from dagster_glue import BashLauncher, ExecutionMode, RayLauncher, SlurmQueueConfig
from dagster_glue.cluster_config import ClusterPlan, RunNeeds, cluster_config
from dagster_glue.clusters.shape import (
    config_of,
    differences,
    fingerprint,
    fits,
    shape_of,
    size,
)
from dagster_glue.launchers import Launcher

LARGE = RayLauncher(num_cpus_per_node=32, num_gpus_per_node=4)
SMALL = RayLauncher(num_cpus_per_node=16, num_gpus_per_node=2)


def shape(launcher: Launcher = LARGE, **more: Any) -> dict[str, Any]:
    queue = SlurmQueueConfig(
        **{"partition": "compute", "time_limit": "1:00:00"} | more.pop("queue", {})
    )
    environment = more.pop("environment", {"prefix": "/env"})
    plan = ClusterPlan(
        name=more.pop("name", "a"),
        mode=ExecutionMode.SLURM_SESSION,
        launcher=launcher,
        queue=queue,
        cluster_dir=more.pop("cluster_dir", "/base/clusters/a"),
        environment=environment,
        needs=RunNeeds(more.pop("slurm_opts", {})),
        **more,
    )
    return shape_of(cluster_config(plan))


def asking(options: dict[str, Any]) -> dict[str, Any]:
    """A cluster whose nodes are what these sbatch options ask for."""
    return {"launcher": RayLauncher(), "slurm_opts": options}


def test_name_place_and_way_there_make_no_other_cluster() -> None:
    elsewhere = shape(name="b", cluster_dir="~/b", ssh={"host": "edge", "user": "me"})
    assert fingerprint(elsewhere) == fingerprint(shape())


@pytest.mark.parametrize(
    "other",
    [
        {"launcher": SMALL},
        {"queue": {"partition": "long"}},
        {"environment": {"archive": "/base/env-cache/1234/environment.tar"}},
        {"slurm_opts": {"nice": 5}},
        {"unleased_timeout_s": 5},
        {"provider_options": {"network": "ib0"}},
    ],
)
def test_what_decides_a_cluster_is_in_its_fingerprint(other: dict[str, Any]) -> None:
    assert fingerprint(shape(**other)) != fingerprint(shape())


def test_a_shape_becomes_a_configuration_again() -> None:
    made = config_of(shape(), "b", "/base/clusters/b", {"host": "edge"})
    assert made["cluster_name"] == "b"
    assert made["provider"]["cluster_dir"] == "/base/clusters/b"
    assert made["provider"]["ssh"] == {"host": "edge"}
    assert shape_of(made) == shape()


@pytest.mark.parametrize(
    ("have", "wanted"),
    [
        ({}, {}),
        ({}, {"launcher": SMALL}),
        ({}, {"launcher": RayLauncher()}),
        ({"queue": {"mem": "8G"}}, {"queue": {"mem": "8000M"}}),
        ({"queue": {"mem": "64G"}}, {"launcher": SMALL, "queue": {"mem_per_cpu": "4G"}}),
        ({"queue": {"time_limit": "2:00:00"}}, {}),
        ({"queue": {"time_limit": "UNLIMITED"}}, {}),
        ({"queue": {"gres": "gpu:a100:2"}, "launcher": RayLauncher()},
         {"launcher": RayLauncher(num_gpus_per_node=1)}),
        ({"launcher": RayLauncher(max_workers=4)}, {"launcher": RayLauncher(max_workers=2)}),
        ({"launcher": RayLauncher(head_mem="8G")}, {"launcher": RayLauncher()}),
        ({"launcher": RayLauncher(idle_timeout=5)}, {"launcher": RayLauncher()}),
        (asking({"gpus-per-task": 2, "mem-per-gpu": "4G"}),
         asking({"gpus-per-node": 1, "mem-per-gpu": "8G"})),
        (asking({"mem": "0"}), asking({"mem": "64G"})),
        ({"unleased_timeout_s": 5}, {}),
        ({"launcher": BashLauncher(), "queue": {"cpus": 4, "mem": "8G"}},
         {"launcher": BashLauncher(), "queue": {"cpus": 2, "mem": "2G"}}),
    ],
)  # fmt: skip
def test_a_cluster_at_least_as_large_fits(have: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert fits(shape(**have), shape(**wanted))


@pytest.mark.parametrize(
    ("have", "wanted"),
    [
        ({"launcher": SMALL}, {}),
        ({"launcher": RayLauncher(num_cpus_per_node=32)}, {}),
        ({"queue": {"mem": "4G"}}, {"queue": {"mem": "8G"}}),
        ({}, {"queue": {"mem": "1G"}}),
        ({"queue": {"mem": "8G"}}, {}),
        ({"queue": {"time_limit": "0:30:00"}}, {}),
        ({"queue": {"time_limit": None}}, {}),
        ({"queue": {"gres": "gpu:v100:2"}, "launcher": RayLauncher()},
         {"queue": {"gres": "gpu:a100:1"}, "launcher": RayLauncher()}),
        ({"queue": {"gres": "gpu:2,licence:1"}, "launcher": RayLauncher()},
         {"queue": {"gres": "gpu:1"}, "launcher": RayLauncher()}),
        ({"launcher": RayLauncher(max_workers=4)}, {"launcher": RayLauncher()}),
        ({"launcher": RayLauncher()}, {"launcher": RayLauncher(min_workers=1)}),
        (asking({"gpus-per-task": 1, "mem-per-gpu": "1G"}),
         asking({"gpus-per-task": 1, "mem-per-gpu": "64G"})),
        (asking({"gpus-per-node": 2, "gres": "gpu:2"}), asking({"gpus-per-node": 4})),
        (asking({"cpus-per-gpu": 2, "gpus": 1}), asking({"cpus-per-gpu": 4, "gpus": 1})),
        (asking({"mincpus": 2}), asking({"mincpus": 8})),
        (asking({"mem": "64G"}), asking({"mem": "0"})),
        ({}, {"queue": {"partition": "long"}}),
        ({}, {"queue": {"account": "other"}}),
        ({}, {"queue": {"qos": "high"}}),
        ({}, {"queue": {"constraint": "haswell"}}),
        ({}, {"slurm_opts": {"exclusive": True}}),
        ({}, {"environment": {"prefix": "/other"}}),
        ({"launcher": RayLauncher(component_id="a")}, {"launcher": RayLauncher(component_id="b")}),
        ({"launcher": RayLauncher(ray_args=["--log-style=pretty"])}, {"launcher": RayLauncher()}),
        ({"launcher": RayLauncher()}, {"launcher": BashLauncher()}),
        ({"launcher": BashLauncher()}, {"launcher": RayLauncher()}),
    ],
)  # fmt: skip
def test_one_that_is_smaller_other_or_not_known_to_be_enough_does_not(
    have: dict[str, Any], wanted: dict[str, Any]
) -> None:
    assert not fits(shape(**have), shape(**wanted))


def test_a_larger_cluster_has_the_greater_size() -> None:
    assert size(shape(SMALL)) < size(shape(LARGE))
    assert size(shape(RayLauncher(max_workers=1))) < size(shape(RayLauncher(max_workers=2)))


def test_what_differs_between_two_shapes_is_named() -> None:
    small, large = shape(RayLauncher(num_cpus_per_node=2)), shape(RayLauncher(num_cpus_per_node=4))
    where = "available_node_types.worker.node_config.cpus-per-task"
    assert f"{where}: 2 there, 4 wanted" in differences(small, large)
    assert differences(small, small) == []
    assert differences(small, shape(RayLauncher(num_cpus_per_node=2), unleased_timeout_s=5)) == []
