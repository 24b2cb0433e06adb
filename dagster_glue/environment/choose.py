"""Which environment a configuration means (pure)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from dagster_glue.environment.base import Environment
from dagster_glue.environment.conda import CondaEnvironment
from dagster_glue.environment.installed import LoginShell, PreDeployed
from dagster_glue.environment.locked import LockedEnvironment
from dagster_glue.environment.pixi import PixiCommand, PixiEnvironment
from dagster_glue.environment.platforms import Target
from slurm_provider.errors import ConfigError


def choose_environment(
    *,
    pre_deployed_env_path: str | None = None,
    lock_file: str | None = None,
    python: str = "python3",
    conda_prefix: str | None = None,
    pixi_project: str | None = None,
    pixi_environment: str | None = None,
    pack_task: str | None = None,
    inject: Sequence[str] = (),
    auto_detect_platform: bool = True,
    pack_platform: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Environment:
    """The one that is named; else the pixi project in which this process was started by pixi;
    else what a login shell has.

    ``SLURM_PACK_PLATFORM`` in the environment comes before ``pack_platform``. Raises ConfigError
    if several are named, and for a detail of one that is not the one.
    """
    environ = os.environ if environ is None else environ
    named = {
        "pre_deployed_env_path": pre_deployed_env_path,
        "lock_file": lock_file,
        "conda_prefix": conda_prefix,
        "pixi_project": pixi_project,
    }
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"give one of {' and '.join(given)}: each names the environment")
    if lock_file is None and python != "python3":
        raise ConfigError(f"python {python!r} is what a lock_file is packed for, and there is none")
    project = pixi_project or (None if given else environ.get("PIXI_PROJECT_ROOT"))
    if not project:
        details = {"pixi_environment": pixi_environment, "pack_task": pack_task, "inject": inject}
        _refuse_for_want_of_pixi(details, given)
    if pack_task is not None and pixi_environment is not None:
        raise ConfigError(
            f"pixi_environment {pixi_environment!r} (environment_name of a run): pack_task "
            f"{pack_task!r} packs the environment that is written in it; give one of the two"
        )
    target = Target(auto_detect_platform, environ.get("SLURM_PACK_PLATFORM") or pack_platform)
    if pre_deployed_env_path is not None:
        return PreDeployed(pre_deployed_env_path)
    if lock_file is not None:
        return LockedEnvironment(lock_file, python, target)
    if conda_prefix is not None:
        return CondaEnvironment(conda_prefix, target)
    if project:
        packer = PixiCommand(pixi_environment or "default", pack_task)
        return PixiEnvironment(project, packer, tuple(inject), target)
    return LoginShell()


def _refuse_for_want_of_pixi(details: Mapping[str, object], given: Sequence[str]) -> None:
    for name, value in details.items():
        if value:
            whose = " (environment_name of a run)" if name == "pixi_environment" else ""
            other = f"the environment is that of {given[0]}" if given else "none is named"
            raise ConfigError(
                f"{name} {value!r}{whose} is for a pixi project, but {other}; leave it out or "
                "give pixi_project"
            )
