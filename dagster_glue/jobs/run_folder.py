"""A run's folder on the shared file system: what the payload gets and what it leaves.

``<work dir>/<submission id>/`` holds context.json and messages.jsonl (Dagster Pipes), job.json and
job_main.py (the program around the payload), and what that writes: status.jsonl, run.log,
stdout.log, stderr.log.
"""

from __future__ import annotations

import io
import json
import posixpath
import shlex
import tarfile
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from slurm_provider.transport import Transport, TransportError

MESSAGES = "messages.jsonl"
STDOUT = "stdout.log"
STDERR = "stderr.log"
STATUS = "status.jsonl"
RUN_LOG = "run.log"

_CONTEXT = "context.json"
_TIMEOUT_S = 60.0
_KEPT_DAYS = 14

# Files that are read later are made now: an NFS client remembers for a minute that a name was
# missing. They are opened for appending, so that a second process that prepares the same run does
# not take away what the first one's job has written.
_PREPARE = """
umask 077
mkdir -p -- "$1" && cd -- "$1" && tar -xf - && shift && for name; do : >> "$name" || exit; done
"""

_FINISH = """
cd -- "$1" || exit 0
: > done
cd .. && find . -mindepth 2 -maxdepth 2 -name done -mtime +"$2" | while IFS= read -r marker; do
  rm -rf -- "$(dirname "$marker")"
done
"""


class RunFolder:
    """One run folder. Methods raise TransportError."""

    def __init__(self, transport: Transport, work_dir: str, submission_id: str) -> None:
        self.transport = transport
        self.path = posixpath.join(work_dir, submission_id)

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

    def prepare(self, context_data: Mapping[str, Any], env: Mapping[str, str]) -> None:
        """Make the folder; ``env`` is for the payload alone, not for Ray's tasks."""
        main = resources.files("dagster_glue.jobs").joinpath("job_main.py").read_bytes()
        content = {
            _CONTEXT: json.dumps(context_data).encode(),
            "job.json": json.dumps({"env": dict(env)}).encode(),
            "job_main.py": main,
        }
        done = self.transport.run(
            ["sh", "-c", _PREPARE, "sh", self.path, MESSAGES, STDOUT, STDERR, STATUS, RUN_LOG],
            stdin=_tar(content),
            timeout_s=_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise TransportError(
                f"the run folder {self.path} cannot be made on {self.transport.label}: "
                f"{done.stderr.strip()}"
            )

    def entrypoint(self, command: Sequence[str]) -> str:
        """The shell command that runs ``command`` under the program of this folder."""
        main = posixpath.join(self.path, "job_main.py")
        return shlex.join(["python", main, "--", *command])

    def finish(self) -> None:
        """Mark the run as over, and drop those that have been over for two weeks."""
        self.transport.run(
            ["sh", "-c", _FINISH, "sh", self.path, str(_KEPT_DAYS)], timeout_s=_TIMEOUT_S
        )


def _tar(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o600
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
