from __future__ import annotations

from typing import Any

import pytest

from dagster_glue import BashLauncher, ConfigError, RayLauncher
from dagster_glue.requirements import requirement_options


def test_requirements_become_options_of_one_node() -> None:
    given = {"cpus": 32, "gpus": 2, "memory_gb": 1.5, "nodes": 3, "framework": "ray"}
    assert requirement_options(given, RayLauncher()) == {
        "cpus-per-task": 32,
        "gpus-per-node": 2,
        "mem": "1536M",
        "nodes": 3,
    }


def test_no_gpus_turn_the_launcher_s_off() -> None:
    assert requirement_options({"gpus": 0}, RayLauncher()) == {"gpus-per-node": False}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cpu": 1}, "closest: cpus"),
        ({"cpus": "many"}, "'many' is not a number"),
        ({"cpus": 1.5}, "not a whole number"),
        ({"cpus": 0}, "0 is not a number of cpus"),
        ({"nodes": 0}, "0 is not a number of nodes"),
        ({"framework": "spark"}, "'spark' does not fit"),
        ({"framework": "ray"}, "does not fit BashLauncher"),
    ],
)
def test_requirements_that_cannot_be_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        requirement_options(given, BashLauncher())
