"""The payload of one run, from all that may say something about it."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dagster_glue.jobs.payload import Payload, plan_payload
from dagster_glue.launchers import Launcher, RayLauncher
from dagster_glue.slurm import SlurmRunConfig
from slurm_provider.errors import ConfigError


def payload_for(
    payload_path: str,
    launcher: Launcher,
    config: SlurmRunConfig,
    *,
    extra_env: Mapping[str, str],
    extra_files: Sequence[str],
    pre_deployed_env_path: str | None,
) -> Payload:
    """Checked before anything is started. Raises PayloadError or ConfigError."""
    ray = launcher if isinstance(launcher, RayLauncher) else None
    files = [*extra_files, *(config.extra_files or ())]
    command = None
    if config.skip_payload_upload or config.remote_payload_path is not None:
        command = _deployed_command(payload_path, config, pre_deployed_env_path)
    payload = plan_payload(
        "python -c pass" if command else payload_path,
        extra_files=files,
        working_dir=ray.working_dir if ray else None,
        runtime_env=ray.runtime_env if ray else None,
        extra_env=extra_env,
    )
    return payload if command is None else replace(payload, command=command)


def _deployed_command(
    payload_path: str, config: SlurmRunConfig, pre_deployed_env_path: str | None
) -> tuple[str, ...]:
    script, *arguments = shlex.split(payload_path)
    path = config.remote_payload_path
    if path is None:
        if pre_deployed_env_path is None:
            raise ConfigError(
                "skip_payload_upload: nobody says where the payload is; give remote_payload_path "
                "(or pre_deployed_env_path, with the payload in its folder scripts/)"
            )
        path = posixpath.join(pre_deployed_env_path, "scripts", posixpath.basename(script))
    if not path.startswith("/"):
        raise ConfigError(f"remote_payload_path {path!r} is not an absolute path")
    return ("python", path, *arguments)
