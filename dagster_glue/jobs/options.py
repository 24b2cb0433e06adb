"""How a payload is run."""

from __future__ import annotations

from dataclasses import dataclass, field

from dagster_glue.jobs.request import EntrypointResources


@dataclass(frozen=True)
class RunOptions:
    """Everything about a run but the payload."""

    strict: bool = True
    """A success that did not open and close Pipes is a failure."""
    log_events: bool = False
    """Also report what the driver prints as Dagster events."""
    all_worker_logs: bool = False
    """Do not let Ray fold equal lines of several workers into one."""
    ray_version: str | None = None
    """What the cluster's Ray is expected to be; another one is a warning."""
    require_ray_version: bool = False
    """Another one is an error."""
    stop_timeout_s: float = 30.0
    """How long a cancelled run waits for its job's end."""
    entrypoint: EntrypointResources = field(default_factory=EntrypointResources)
