"""What ``ComputeResource.run`` makes of its arguments before there is a cluster."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from dagster_glue import (
    BashLauncher,
    ComputeResource,
    PackConfig,
    RayLauncher,
    SlurmResource,
    SlurmRunConfig,
)
from dagster_glue.acquire import ClusterRequest
from dagster_glue.cluster_config import RunNeeds
from dagster_glue.environment import (
    LockedEnvironment,
    PixiCommand,
    PixiEnvironment,
    PreDeployed,
    Target,
)
from dagster_glue.launchers import Launcher, asked_ray_version


class Asked(Exception):
    """A cluster was asked for."""


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[ClusterRequest]:
    """All that reach the place where clusters come from; none comes."""
    seen: list[ClusterRequest] = []

    @contextmanager
    def acquired(request: ClusterRequest, *others: Any) -> Any:
        seen.append(request)
        raise Asked
        yield

    monkeypatch.setattr("dagster_glue.running.acquired", acquired)
    for variable in ("PIXI_PROJECT_ROOT", "SLURM_PACK_PLATFORM"):
        monkeypatch.delenv(variable, raising=False)
    return seen


def run(compute: ComputeResource, **arguments: Any) -> None:
    """One step; its cluster, and so the rest, is not there."""

    @dg.asset
    def step(context):  # type: ignore[no-untyped-def]  # Dagster refuses its text
        compute.run(context, "python -m train", **arguments)

    dg.materialize([step])


def on_slurm(**values: Any) -> ComputeResource:
    return ComputeResource(mode="slurm", slurm=SlurmResource(), **values)


def test_the_facade_s_packing_and_the_run_s_own_words_decide_the_environment(
    requests: list[ClusterRequest],
) -> None:
    compute = on_slurm(
        packing=PackConfig(pixi_project="/project", inject=["dist/*.whl"]),
        auto_detect_platform=False,
        pack_platform="linux-aarch64",
    )
    with pytest.raises(Asked):
        run(compute, environment_name="train", force_env_push=True)
    with pytest.raises(Asked):
        run(compute, config=SlurmRunConfig(environment_name="serve"))

    target = Target(auto_detect=False, pack_platform="linux-aarch64")
    assert [(each.environment, each.force_env_push) for each in requests] == [
        (PixiEnvironment("/project", PixiCommand("train"), ("dist/*.whl",), target), True),
        (PixiEnvironment("/project", PixiCommand("serve"), ("dist/*.whl",), target), False),
    ]


@pytest.mark.parametrize(
    ("values", "environment"),
    [
        ({"packing": PackConfig(lock_file="uv.lock")}, LockedEnvironment("uv.lock")),
        ({"pre_deployed_env_path": "/envs/prod"}, PreDeployed("/envs/prod")),
        ({"packing": PackConfig(pixi_project="/p", pack_task="pack-only", inject=["a.whl"])},
         PixiEnvironment("/p", PixiCommand(task="pack-only"), ("a.whl",))),
    ],
)  # fmt: skip
def test_the_environment_is_the_one_that_the_facade_names(
    values: dict[str, Any], environment: object, requests: list[ClusterRequest]
) -> None:
    with pytest.raises(Asked):
        run(on_slurm(**values))
    assert requests[0].environment == environment


@pytest.mark.parametrize(
    ("values", "arguments", "words"),
    [
        ({"pre_deployed_env_path": "/env"}, {"environment_name": "x"},
         "environment is that of pre_deployed_env_path"),
        ({"packing": PackConfig(lock_file="uv.lock")}, {"environment_name": "x"},
         r"'x' \(environment_name of a run\) is for a pixi project, but .* lock_file"),
        ({}, {"environment_name": "x"}, "is for a pixi project, but none is named"),
        ({"packing": PackConfig(pixi_project="/p", pack_task="pack")}, {"environment_name": "x"},
         "give one of the two"),
        ({}, {"environment_name": "x", "launcher": RayLauncher(ray_address="http://h:1")},
         "nothing is packed"),
    ],
)  # fmt: skip
def test_an_environment_s_name_that_would_mean_nothing_is_refused(
    values: dict[str, Any],
    arguments: dict[str, Any],
    words: str,
    requests: list[ClusterRequest],
) -> None:
    with pytest.raises(dg.Failure, match=words):
        run(on_slurm(**values), **arguments)
    assert requests == []


@pytest.mark.parametrize(
    ("mode", "launcher", "name"),
    [("local", None, "train"), ("slurm", RayLauncher(ray_address="http://head:8265"), None)],
)
def test_nothing_is_packed_where_no_cluster_is_made(
    mode: str, launcher: Launcher | None, name: str | None, requests: list[ClusterRequest]
) -> None:
    compute = ComputeResource(
        mode=mode, slurm=SlurmResource(), packing=PackConfig(inject=["dist/*.whl"])
    )
    with pytest.raises(Asked):
        run(compute, launcher=launcher, environment_name=name)
    assert requests[0].environment is None


@pytest.mark.parametrize(
    ("mode", "launcher"),
    [
        ("local", BashLauncher()),
        ("slurm", RayLauncher()),
        ("slurm", RayLauncher(ray_address="http://head:8265")),
    ],
)
def test_misspelt_options_of_a_run_are_refused_in_every_mode(
    mode: str, launcher: Launcher, requests: list[ClusterRequest]
) -> None:
    compute = ComputeResource(mode=mode, slurm=SlurmResource(), default_launcher=launcher)
    with pytest.raises(dg.Failure, match="closest: 'partition'"):
        run(compute, extra_slurm_opts={"partitoin": "gpu"})
    with pytest.raises(dg.Failure, match="closest: cpus"):
        run(compute, resource_requirements={"cpu": 2})
    assert requests == []


def test_a_run_s_options_come_before_its_requirements(requests: list[ClusterRequest]) -> None:
    needs = {"nodes": 4, "memory_gb": 8, "cpus": 2}
    with pytest.raises(Asked):
        run(
            on_slurm(default_launcher=RayLauncher(max_workers=8)),
            resource_requirements=needs,
            extra_slurm_opts={"num_nodes": 2, "mem_per_cpu": "1G"},
        )
    assert requests[0].needs == RunNeeds({"cpus-per-task": "2", "mem-per-cpu": "1G"}, nodes=2)


@pytest.mark.parametrize(
    ("launcher", "default", "expected"),
    [
        (RayLauncher(), RayLauncher(ray_version="2.9.3"), ("2.9.3", False)),
        (RayLauncher(ray_version="2.60.0"), RayLauncher(ray_version="2.9.3"), ("2.60.0", False)),
        (RayLauncher(), RayLauncher(ray_version="2.9.3", require_ray_version=True),
         ("2.9.3", True)),
        (RayLauncher(ray_address="http://h:1"), RayLauncher(ray_version="2.9.3"), (None, False)),
        (RayLauncher(), RayLauncher(ray_version="2.9.3", ray_address="http://h:1"), (None, False)),
        (BashLauncher(), RayLauncher(ray_version="2.9.3"), (None, False)),
        (RayLauncher(), None, (None, False)),
    ],
)  # fmt: skip
def test_the_default_launcher_s_ray_version_is_that_of_all_in_its_environment(
    launcher: Launcher, default: Launcher | None, expected: tuple[str | None, bool]
) -> None:
    assert asked_ray_version(launcher, default) == expected
