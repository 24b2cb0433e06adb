"""Dagster's EnvVar in the fields of resources, inside runs and outside of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from dagster_glue import (
    ComputeResource,
    ConfigError,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
    SSHConnectionResource,
)
from dagster_glue.strict import resolved


# Made by functions, for pytest would look into the parameters to name them.
def text() -> Any:
    return dg.EnvVar("THE_VALUE")


def whole() -> Any:
    return dg.EnvVar.int("THE_VALUE")


def listed() -> Any:
    return [dg.EnvVar("THE_VALUE")]


def mapped() -> Any:
    return {"fast": dg.EnvVar("THE_VALUE")}


def of_facade(name: str) -> Callable[[Any], ComputeResource]:
    return lambda value: ComputeResource(**{"mode": "local", name: value})


def of_launcher(name: str) -> Callable[[Any], ComputeResource]:
    return lambda value: ComputeResource(
        mode="local", default_launcher=RayLauncher(**{name: value})
    )


def of_queue(name: str) -> Callable[[Any], ComputeResource]:
    return lambda value: ComputeResource(
        mode="local", slurm=SlurmResource(queue=SlurmQueueConfig(**{name: value}))
    )


def of_ssh(name: str) -> Callable[[Any], ComputeResource]:
    return lambda value: ComputeResource(
        mode="local",
        slurm=SlurmResource(ssh=SSHConnectionResource(**{"host": "edge", name: value})),
    )


def as_a_run_sees_it(compute: ComputeResource) -> ComputeResource:
    seen: list[ComputeResource] = []

    @dg.asset(required_resource_keys={"compute"})
    def look(context):  # type: ignore[no-untyped-def]  # Dagster refuses its text
        seen.append(context.resources.compute)

    dg.materialize([look], resources={"compute": compute})
    return seen[0]


@pytest.mark.parametrize("seen_by", [as_a_run_sees_it, resolved], ids=["a run", "other code"])
@pytest.mark.parametrize(
    ("make", "variable", "value", "expected"),
    [
        (of_facade("mode"), text, "local", "local"),
        (of_facade("strict"), text, "false", False),
        (of_facade("log_events"), text, "true", True),
        (of_facade("pre_deployed_env_path"), text, "/env", "/env"),
        (of_launcher("num_cpus_per_node"), text, "3", 3),
        (of_launcher("num_cpus_per_node"), whole, "3", 3),
        (of_launcher("require_ray_version"), text, "true", True),
        (of_launcher("ray_args"), listed, "--verbose", ["--verbose"]),
        (of_queue("cpus"), text, "2", 2),
        (of_queue("partition"), text, "compute", "compute"),
        (of_ssh("port"), text, "2222", 2222),
    ],
)  # fmt: skip
def test_a_variable_has_the_type_of_its_field(
    make: Callable[[Any], ComputeResource],
    variable: Callable[[], Any],
    value: str,
    expected: object,
    seen_by: Callable[[ComputeResource], ComputeResource],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compute = make(variable())
    monkeypatch.setenv("THE_VALUE", value)
    assert seen_by(compute).model_dump() == make(expected).model_dump()


@pytest.mark.parametrize(
    ("make", "variable", "value", "words"),
    [
        (of_facade("strict"), text, "perhaps", "THE_VALUE, which is 'perhaps': .* valid boolean"),
        (of_launcher("num_cpus_per_node"), text, "many", "which is 'many': .* valid integer"),
        (of_launcher("num_cpus_per_node"), whole, "0", "which is '0': .* at least 1"),
        (of_queue("cpus"), whole, "-1", "SlurmQueueConfig.cpus .* at least 1"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_variable(
    make: Callable[[Any], ComputeResource],
    variable: Callable[[], Any],
    value: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compute = make(variable())
    monkeypatch.setenv("THE_VALUE", value)
    with pytest.raises(ConfigError, match=words):
        resolved(compute)


@pytest.mark.parametrize(
    ("make", "variable", "words"),
    [
        (of_facade("queue_timeout"), text, "queue_timeout cannot be an EnvVar: .* no fractions"),
        (of_launcher("idle_timeout"), whole, "no fractions"),
        (of_launcher("entrypoint_resources"), mapped, "no fractions"),
        (of_ssh("keepalive_s"), text, "no fractions"),
        (of_launcher("slurm_opts"), mapped, "mapping of free content"),
        (of_queue("extra_slurm_opts"), mapped, "mapping of free content"),
    ],
)
def test_a_variable_that_dagster_would_not_replace_is_refused(
    make: Callable[[Any], ComputeResource], variable: Callable[[], Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        make(variable())


def test_the_facade_works_outside_of_runs_with_its_mode_in_a_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dagster_glue.clusters.inventory.local_runtimes", lambda: [])
    compute = ComputeResource(mode=text())
    monkeypatch.setenv("THE_VALUE", "local")
    assert compute.clusters() == []
    monkeypatch.setenv("THE_VALUE", "slurm")
    with pytest.raises(ConfigError, match="mode slurm needs slurm="):
        compute.clusters()
