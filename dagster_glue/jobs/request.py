"""The submission as Ray's job API takes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster_glue.jobs.driver_package import MODULE
from dagster_glue.jobs.errors import PayloadError
from dagster_glue.jobs.payload import Payload
from dagster_glue.jobs.run_folder import RunFolder
from dagster_glue.jobs.submission import DIGEST_KEY, StepCall

# MAX_ARG_STRLEN: Ray hands the command to `sh -c` as one argument; also of a variable and its name.
_MAX_COMMAND = 128 * 1024 - 1


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
    driver_uri: str | None,
    env: Mapping[str, str],
    entrypoint: EntrypointResources,
) -> dict[str, Any]:
    """The body of ``POST /api/jobs/``.

    The driver's variables are in its ``folder``, else in the package ``driver_uri``, else, where
    Ray takes none, ``env`` is part of the command, which everybody can read.
    Raises PayloadError for a command that is too long.
    """
    if folder is not None:
        command = folder.entrypoint(payload.command)
    elif driver_uri is not None:
        command = shlex.join(["python", "-m", MODULE, *payload.command])
    else:
        variables = [f"{name}={value}" for name, value in env.items()]
        command = shlex.join(["env", *variables, *payload.command])
    if len(command.encode()) > _MAX_COMMAND:
        raise PayloadError(
            f"the command is {len(command.encode())} bytes long, and Linux takes {_MAX_COMMAND}: "
            "pass less in arguments; extras and files may be longer"
        )
    longest = max((len(f"{name}={value}") for name, value in env.items()), default=0)
    if longest > _MAX_COMMAND:
        raise PayloadError(
            f"the context with its extras is {longest} bytes long, and Linux takes {_MAX_COMMAND} "
            "in a variable: pass less in extras, or use a cluster with a shared file system, where "
            "the context travels in a file"
        )
    request = {
        "submission_id": submission_id,
        "entrypoint": command,
        "runtime_env": _runtime_env(payload, package_uri, driver_uri),
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


def _runtime_env(
    payload: Payload, package_uri: str | None, driver_uri: str | None
) -> dict[str, Any]:
    env: dict[str, Any] = dict(payload.runtime_env)
    working_dir = package_uri or payload.working_dir
    if working_dir is not None:
        env["working_dir"] = working_dir
    if driver_uri is not None:
        env["py_modules"] = [*(env.get("py_modules") or ()), driver_uri]
    if payload.env_vars:
        env["env_vars"] = dict(payload.env_vars)
    return env
