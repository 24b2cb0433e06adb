"""The payload of one run, from all that may say something about it."""

from __future__ import annotations

import os
import posixpath
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dagster_glue.jobs.payload import (
    CommandWords,
    Payload,
    check_command,
    command_words,
    plan_payload,
)
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
    if command is None:
        return payload
    check_command(command)
    return replace(payload, command=command)


def _deployed_command(
    payload_path: str, config: SlurmRunConfig, pre_deployed_env_path: str | None
) -> tuple[str, ...]:
    if os.path.isfile(payload_path):  # perhaps with blanks in it
        words = CommandWords((), payload_path, ())
    else:
        words = command_words(payload_path)
    path = config.remote_payload_path
    if words.script is None:
        if path is not None:
            raise ConfigError(
                f"remote_payload_path {path!r} is a script's, but payload_path {payload_path!r} "
                "runs no script; leave it out, or write the script's name into payload_path"
            )
        return (*words.interpreter, *words.arguments)
    if path is None:
        if pre_deployed_env_path is None:
            raise ConfigError(
                "skip_payload_upload: nobody says where the payload is; give remote_payload_path "
                "(or pre_deployed_env_path, with the payload in its folder scripts/)"
            )
        path = posixpath.join(pre_deployed_env_path, "scripts", posixpath.basename(words.script))
    interpreter = words.interpreter or ("python",)
    if path.startswith("~/"):  # the home folder is known over there
        script = f'exec {shlex.join(interpreter)} "$HOME/$0" "$@"'
        return ("sh", "-c", script, path.removeprefix("~/"), *words.arguments)
    if not path.startswith("/"):
        raise ConfigError(f"remote_payload_path {path!r} must be absolute or start with ~/")
    return (*interpreter, path, *words.arguments)
