"""What is left in a run folder of a job that Ray does not know: its cluster may be gone by now."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass

from dagster_glue.jobs.run_folder import DIGEST, JOB, STATUS, RunFolder
from dagster_glue.jobs.source import end_in, was_closed_in_folder
from dagster_glue.pipes.lines import LineBuffer


@dataclass(frozen=True)
class Remains:
    """Of a payload that ended."""

    digest: str
    """See :func:`.submission.payload_digest`."""
    exit_code: int
    has_closed: bool
    """Pipes, with its last message."""
    was_stopped: bool = False
    """It was asked to end, so its success may be a part of one."""

    def stand_for(self, digest: str, *, strict: bool) -> bool:
        """Whether this payload need not run again."""
        is_complete = not self.was_stopped and (self.has_closed or not strict)
        return self.exit_code == 0 and self.digest == digest and is_complete


def remains_of(folder: RunFolder) -> Remains | None:
    """None where no payload has ended. Raises TransportError."""
    try:
        status = folder.transport.read_file(posixpath.join(folder.path, STATUS))
        job = json.loads(folder.transport.read_file(posixpath.join(folder.path, JOB)))
    except FileNotFoundError:
        return None
    ended = end_in(LineBuffer().feed(status))
    if ended is None:
        return None
    has_closed = ended.exit_code == 0 and was_closed_in_folder(folder)
    return Remains(str(job.get(DIGEST, "")), ended.exit_code, has_closed, ended.was_stopped)
