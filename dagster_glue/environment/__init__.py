"""How Ray and the payload's packages get onto every host of a cluster."""

from dagster_glue.environment.base import Environment, EnvironmentFailed
from dagster_glue.environment.choose import choose_environment
from dagster_glue.environment.conda import CondaEnvironment
from dagster_glue.environment.installed import LoginShell, PreDeployed
from dagster_glue.environment.locked import LockedEnvironment
from dagster_glue.environment.pixi import PixiCommand, PixiEnvironment, PixiPack
from dagster_glue.environment.platforms import Target

__all__ = [
    "CondaEnvironment",
    "Environment",
    "EnvironmentFailed",
    "LockedEnvironment",
    "LoginShell",
    "PixiCommand",
    "PixiEnvironment",
    "PixiPack",
    "PreDeployed",
    "Target",
    "choose_environment",
]
