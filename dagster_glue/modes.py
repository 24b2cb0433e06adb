"""Where a payload runs."""

from __future__ import annotations

from enum import Enum

from slurm_provider.errors import ConfigError


class ExecutionMode(str, Enum):
    """What :class:`~dagster_glue.ComputeResource` runs payloads on."""

    LOCAL = "local"
    """Ray on the Dagster machine; no Slurm."""
    SLURM = "slurm"
    """A cluster for each asset run, gone afterwards."""
    SLURM_SESSION = "slurm-session"
    """A named cluster that outlives assets, runs and Dagster processes."""
    SLURM_HETJOB = "slurm-hetjob"
    """One heterogeneous Slurm job; all its components are one Ray cluster."""

    @property
    def uses_slurm(self) -> bool:
        return self is not ExecutionMode.LOCAL


def parse_mode(value: object) -> ExecutionMode:
    """A mode from its value (``slurm-session``) or its name (``SLURM_SESSION``).

    Raises ConfigError with the modes there are.
    """
    text = value.value if isinstance(value, ExecutionMode) else str(value)
    for mode in ExecutionMode:
        if text in (mode.value, mode.name):
            return mode
    allowed = ", ".join(mode.value for mode in ExecutionMode)
    raise ConfigError(f"mode {text!r} is not an execution mode; use one of {allowed}")
