"""A run's folder on the shared file system: what the payload gets and what it leaves.

``<work dir>/<submission id>/`` holds context.json and messages.jsonl (Dagster Pipes), job.json and
job_main.py (the program around the payload), a payload that is one script in ``payload/``, where it
runs, and what job_main.py writes: status.jsonl, run.log,
stdout.log, stderr.log. At its end it gets a file ``done`` or ``failed``; after a failure the
nodes' agents add ``ray/<node id>/`` (see slurm_provider/agent/kept_logs.py).
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from dagster_glue.scripts import shell_script
from slurm_provider.cluster_paths import ClusterPaths
from slurm_provider.transport import Transport, TransportError

MESSAGES = "messages.jsonl"
STDOUT = "stdout.log"
STDERR = "stderr.log"
STATUS = "status.jsonl"
RUN_LOG = "run.log"
RAY_LOGS = "ray"
JOB = "job.json"
DIGEST = "digest"
"""In JOB: which payload it is."""

_CONTEXT = "context.json"
_PAYLOAD = "payload"
_TIMEOUT_S = 60.0
_KEPT_DAYS = {"done": 14, "failed": 60}
_SILENT_DAYS = 90  # runs without an end, in which nobody has written for so long


class RunFolder:
    """One run folder. Methods raise TransportError."""

    def __init__(
        self,
        transport: Transport,
        work_dir: str,
        submission_id: str,
        cluster_dir: str | None = None,
    ) -> None:
        """``cluster_dir`` is that of a cluster whose nodes can be asked for their logs."""
        self.transport = transport
        self.path = posixpath.join(work_dir, submission_id)
        self._asked = cluster_dir and posixpath.join(
            ClusterPaths(cluster_dir).log_requests, submission_id
        )

    @property
    def context_params(self) -> dict[str, Any]:
        """For Pipes' default context loader."""
        return {"path": posixpath.join(self.path, _CONTEXT)}

    @property
    def message_params(self) -> dict[str, Any]:
        """For Pipes' default message writer, which opens, appends and closes for each message."""
        return {"path": posixpath.join(self.path, MESSAGES)}

    @property
    def log_path(self) -> str:
        return posixpath.join(self.path, RUN_LOG)

    @property
    def ray_logs_path(self) -> str | None:
        """Where Ray's logs are after a failure; None where no agents keep any."""
        return posixpath.join(self.path, RAY_LOGS) if self._asked else None

    def prepare(
        self,
        context_data: Mapping[str, Any],
        env: Mapping[str, str],
        script: str | None = None,
        *,
        digest: str = "",
    ) -> None:
        """Make the folder; ``env`` is for the payload alone, not for Ray's tasks.

        ``script`` is the path here of a payload that runs in the folder itself; ``digest`` is the
        payload's, see :mod:`.remains`.
        """
        content = {
            _CONTEXT: json.dumps(context_data).encode(),
            JOB: json.dumps(
                {"env": dict(env), "cwd": script and _PAYLOAD, DIGEST: digest}
            ).encode(),
            "job_main.py": _source("dagster_glue.jobs", "job_main.py"),
            "memory_kills.py": _source("slurm_provider.agent", "memory_kills.py"),
        }
        if script is not None:
            name = posixpath.join(_PAYLOAD, os.path.basename(script))
            content[name] = Path(script).read_bytes()
        done = self.transport.run(
            ["sh", "-c", shell_script("prepare_run.sh"), "sh", self.path, self._asked or "",
             MESSAGES, STDOUT, STDERR, STATUS, RUN_LOG],
            stdin=_tar(content),
            timeout_s=_TIMEOUT_S,
        )  # fmt: skip
        if done.returncode != 0:
            raise TransportError(
                f"the run folder {self.path} cannot be made on {self.transport.label}: "
                f"{done.stderr.strip()}"
            )

    def entrypoint(self, command: Sequence[str]) -> str:
        """The shell command that runs ``command`` under the program of this folder."""
        main = posixpath.join(self.path, "job_main.py")
        return shlex.join(["python", main, "--", *command])

    def finish(self, *, succeeded: bool) -> None:
        """Mark the run as over; after a failure, nodes then copy Ray's logs here.

        Also drops runs that have been over for long: successes after two weeks, failures after
        two months.
        """
        self.transport.run(
            ["sh", "-c", shell_script("finish_run.sh"), "sh", self.path,
             "done" if succeeded else "failed", self._asked or "",
             str(_KEPT_DAYS["done"]), str(_KEPT_DAYS["failed"]), str(_SILENT_DAYS)],
            timeout_s=_TIMEOUT_S,
        )  # fmt: skip


def _source(package: str, name: str) -> bytes:
    return resources.files(package).joinpath(name).read_bytes()


def _tar(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o600
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
