"""What is left in a run folder of a job that Ray does not know: its cluster may be gone by now."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass

from dagster_glue.jobs.run_folder import DIGEST, JOB, STATUS, RunFolder
from dagster_glue.jobs.source import end_in, was_closed_in_folder
from dagster_glue.jobs.submission import Choice
from dagster_glue.pipes.lines import LineBuffer


@dataclass(frozen=True)
class Remains:
    """Of a payload that started."""

    digest: str
    """See :func:`.submission.payload_digest`."""
    exit_code: int | None
    """None where it did not get to its end, or not yet."""
    has_closed: bool = False
    """Pipes, with its last message."""
    was_stopped: bool = False
    """It was asked to end, so its success may be a part of one."""

    def choice(self, digest: str, *, strict: bool) -> Choice:
        """What a step with this payload does: it need not run again, or it starts anew."""
        is_complete = not self.was_stopped and (self.has_closed or not strict)
        stands = self.exit_code == 0 and self.digest == digest and is_complete
        return Choice.ADOPT if stands else Choice.IGNORE


def remains_of(folder: RunFolder) -> Remains | None:
    """None where no payload has started. Raises TransportError."""
    try:
        status = folder.transport.read_file(posixpath.join(folder.path, STATUS))
        job = json.loads(folder.transport.read_file(posixpath.join(folder.path, JOB)))
    except FileNotFoundError:
        return None
    digest, ended = str(job.get(DIGEST, "")), end_in(LineBuffer().feed(status))
    if ended is None:
        return Remains(digest, None) if status.strip() else None
    has_closed = ended.exit_code == 0 and was_closed_in_folder(folder)
    return Remains(digest, ended.exit_code, has_closed, ended.was_stopped)
