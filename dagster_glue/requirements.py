"""``resource_requirements``: a node's size in words that are not Slurm's (pure)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from dagster_glue.launchers import Launcher, RayLauncher
from slurm_provider.errors import ConfigError

_KNOWN = ("cpus", "gpus", "memory_gb", "nodes", "framework")


def requirement_options(requirements: Mapping[str, Any], launcher: Launcher) -> dict[str, Any]:
    """As options of Slurm. ``framework`` has to be the launcher's. Raises ConfigError."""
    options: dict[str, Any] = {}
    for name, value in requirements.items():
        if name not in _KNOWN:
            close = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.5)
            hint = f"closest: {close[0]}" if close else f"known: {', '.join(_KNOWN)}"
            raise ConfigError(f"resource_requirements: {name!r} is not known; {hint}")
        if name == "framework":
            _check_framework(value, launcher)
            continue
        number = _number(name, value)
        if name == "memory_gb":
            options["mem"] = f"{round(number * 1024)}M"
        elif number != int(number):
            raise ConfigError(f"resource_requirements: {name}: {value!r} is not a whole number")
        else:
            if number == 0 and name != "gpus":
                raise ConfigError(f"resource_requirements: {value!r} is not a number of {name}")
            key = {"cpus": "cpus-per-task", "gpus": "gpus-per-node", "nodes": "nodes"}[name]
            options[key] = int(number) or False
    return options


def _check_framework(value: Any, launcher: Launcher) -> None:
    has_ray = isinstance(launcher, RayLauncher)
    if value not in ("ray", "bash") or (value == "ray") != has_ray:
        raise ConfigError(
            f"resource_requirements: framework {value!r} does not fit {type(launcher).__name__}; "
            "'ray' needs a RayLauncher, 'bash' a BashLauncher"
        )


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise ConfigError(f"resource_requirements: {name}: {value!r} is not a number")
    return float(value)
