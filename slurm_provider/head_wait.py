"""The wait for the head's start, as a person sees it."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable

from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import Job, ReasonKind, explain


def waiting_words(node: Node, nodes: Iterable[Node] = ()) -> str:
    """One line for a person: state, reason, expected start.

    ``nodes`` are the cluster's: a heterogeneous job waits for the last of its components.
    """
    job = node.job
    if job is None:
        return f"job {node.job_id or ''} submitted"
    if not job.state.is_pending:
        return f"job {job.job_id} is {job.state.name.lower()} on {job.nodelist}: Ray node starting"
    jobs = [job, *(other.job for other in nodes if other.job and _starts_with(other.job, job))]
    last = max(jobs, key=_how_far)
    why = explain(last.reason).sentence
    words = f"job {last.job_id} waits in partition {last.partition}: {why}"
    starts = [each.start_time for each in jobs if each.start_time]
    if len(starts) == len(jobs):
        start = time.localtime(max(starts))
        words += f" (expected start {time.strftime('%d %b %H:%M', start)})"
    return words


def _starts_with(other: Job, job: Job) -> bool:
    return job.hetjob_id is not None and other.hetjob_id == job.hetjob_id


def _how_far(job: Job) -> tuple[int, float]:
    """Orders pending jobs by how far they are from their start."""
    return _WAITING_FOR.index(explain(job.reason).kind), job.start_time or math.inf


# From what passes by itself to what never will.
_WAITING_FOR = (ReasonKind.ENDED, ReasonKind.WAITING, ReasonKind.UNKNOWN, ReasonKind.LIMITED,
                ReasonKind.HELD, ReasonKind.NEVER)  # fmt: skip


class StatusLine:
    """The queue's state, refreshed in place on a terminal, a line per change elsewhere."""

    def __init__(self) -> None:
        self._last = ""
        self._rows = 0  # of the terminal that it takes
        self._in_place = sys.stdout.isatty()

    def show(self, words: str) -> None:
        if words == self._last:
            return
        self._last = words
        if not self._in_place:
            print(f"  {words}", flush=True)
            return
        rows = textwrap.wrap(words, shutil.get_terminal_size().columns - 3)
        up = f"\x1b[{self._rows - 1}A" if self._rows > 1 else ""
        print(f"{up}\r\x1b[J" + "\n".join(f"  {row}" for row in rows), end="", flush=True)
        self._rows = len(rows)

    def end(self) -> None:
        if self._in_place and self._last:
            print(flush=True)
