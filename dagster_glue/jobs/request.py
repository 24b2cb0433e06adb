"""The submission as Ray's job API takes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster_glue.jobs.errors import PayloadError
from dagster_glue.jobs.payload import Payload
from dagster_glue.jobs.run_folder import RunFolder
from dagster_glue.jobs.submission import DIGEST_KEY, StepCall

_MAX_COMMAND = 128 * 1024 - 1  # MAX_ARG_STRLEN: Ray hands it to `sh -c` as one argument


@dataclass(frozen=True)
class EntrypointResources:
    """What Ray reserves for the driver itself. With any of them it may leave the head."""

    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: int | None = None
    """Bytes."""
    resources: Mapping[str, float] = field(default_factory=dict)


def driver_environment(pipes: Mapping[str, str], *, all_worker_logs: bool) -> dict[str, str]:
    """Variables for the driver alone.

    Pipes' are not for Ray's tasks: a messages file has one writer.
    """
    return {**pipes, **({"RAY_DEDUP_LOGS": "0"} if all_worker_logs else {})}


def job_request(
    submission_id: str,
    payload: Payload,
    call: StepCall,
    digest: str,
    *,
    package_uri: str | None,
    folder: RunFolder | None,
    env: Mapping[str, str],
    entrypoint: EntrypointResources,
) -> dict[str, Any]:
    """The body of ``POST /api/jobs/``. Raises PayloadError for a command that is too long."""
    if folder is not None:
        command = folder.entrypoint(payload.command)
    else:
        variables = [f"{name}={value}" for name, value in env.items()]
        command = shlex.join(["env", *variables, *payload.command])
    if len(command) > _MAX_COMMAND:
        raise PayloadError(
            f"the command with its context is {len(command)} characters long, and Linux takes "
            f"{_MAX_COMMAND}: pass less in arguments and extras, or use a cluster with a shared "
            "file system, where the context travels in a file"
        )
    request = {
        "submission_id": submission_id,
        "entrypoint": command,
        "runtime_env": _runtime_env(payload, package_uri),
        "metadata": {
            "dagster_run_id": call.run_id,
            "dagster_step_key": call.step_key,
            "dagster_attempt": str(call.attempt),
            DIGEST_KEY: digest,
        },
        "entrypoint_num_cpus": entrypoint.num_cpus,
        "entrypoint_num_gpus": entrypoint.num_gpus,
        "entrypoint_memory": entrypoint.memory,
        "entrypoint_resources": dict(entrypoint.resources) or None,
    }
    return {key: value for key, value in request.items() if value is not None}


def _runtime_env(payload: Payload, package_uri: str | None) -> dict[str, Any]:
    env: dict[str, Any] = dict(payload.runtime_env)
    working_dir = package_uri or payload.working_dir
    if working_dir is not None:
        env["working_dir"] = working_dir
    if payload.env_vars:
        env["env_vars"] = dict(payload.env_vars)
    return env
