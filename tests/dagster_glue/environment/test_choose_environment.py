from __future__ import annotations

from typing import Any

import pytest

from dagster_glue.environment import (
    CondaEnvironment,
    LockedEnvironment,
    LoginShell,
    PixiCommand,
    PixiEnvironment,
    PreDeployed,
    Target,
    choose_environment,
)
from slurm_provider.errors import ConfigError


def test_the_environment_that_is_named_is_taken() -> None:
    inside = {"PIXI_PROJECT_ROOT": "/project"}
    assert choose_environment(pre_deployed_env_path="/env", environ=inside) == PreDeployed("/env")
    assert choose_environment(lock_file="uv.lock", environ=inside) == LockedEnvironment("uv.lock")
    assert choose_environment(conda_prefix="/c", environ=inside) == CondaEnvironment("/c")
    assert choose_environment(pixi_project="/p", pack_task="pack", environ={}) == PixiEnvironment(
        "/p", PixiCommand(task="pack")
    )


def test_inside_pixi_its_project_is_taken() -> None:
    found = choose_environment(environ={"PIXI_PROJECT_ROOT": "/project"})
    assert found == PixiEnvironment("/project", PixiCommand())


def test_else_the_login_shell_counts() -> None:
    assert choose_environment(environ={}) == LoginShell()


def test_several_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match="pre_deployed_env_path and lock_file"):
        choose_environment(pre_deployed_env_path="/env", lock_file="uv.lock", environ={})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"conda_prefix": "/c", "pack_task": "pack"}, "pack_task 'pack' is for a pixi project"),
        ({"lock_file": "uv.lock", "inject": ["a.whl"]}, "inject .* that of lock_file"),
        ({"pixi_environment": "gpu"}, "for a pixi project, but none is named"),
        ({"pixi_project": "/p", "pixi_environment": "gpu", "pack_task": "pack"}, "one of the two"),
        ({"conda_prefix": "/c", "python": "python3.11"}, "what a lock_file is packed for"),
    ],
)
def test_a_detail_of_another_kind_of_environment_is_refused(
    given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        choose_environment(**given, environ={})


def test_the_variable_comes_before_pack_platform() -> None:
    found = choose_environment(
        lock_file="uv.lock",
        pack_platform="linux-64",
        auto_detect_platform=False,
        environ={"SLURM_PACK_PLATFORM": "linux-aarch64"},
    )
    assert isinstance(found, LockedEnvironment)
    assert found.target == Target(auto_detect=False, pack_platform="linux-aarch64")
