"""Which workers of a running cluster do not start yet, and why, in words for a person (pure)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from slurm_provider.fleet.brake import times_in_a_row
from slurm_provider.fleet.identity import WORKER
from slurm_provider.overview import NodeRow, Setback


@dataclass(frozen=True)
class WorkerWait:
    """Workers of one node type that wait for the same."""

    node_type: str
    what: str
    """What they wait for; the same words for as long as that does not change."""
    count: int = 0
    """How many; 0 for a node type that fails."""
    fails: bool = False
    """They do not wait their turn: they fail, or Slurm refuses them."""
    stays: bool = False
    """It does not pass by itself."""
    expected_start: float | None = None
    """Of the first of them, by Slurm; epoch seconds."""

    @property
    def words(self) -> str:
        """For a person; of those that failed with the end of a log."""
        number = f" ({self.count} of them)" if self.count > 1 else ""
        words = f"Workers of type {self.node_type!r}{number} {self.what}"
        if self.expected_start is not None:
            start = time.localtime(self.expected_start)
            words += f" (expected start {time.strftime('%d %b %H:%M', start)})"
        return words


def worker_waits(rows: Iterable[NodeRow], setbacks: Iterable[Setback]) -> list[WorkerWait]:
    """One for each node type and kind of wait: after failures, in Slurm's queue, or before it."""
    found = [_failing(setback) for setback in setbacks]
    failing = {wait.node_type for wait in found}
    groups: dict[tuple[str, str], list[NodeRow]] = {}
    for row in rows:
        is_told = row.state == "held" and row.node_type in failing
        if row.kind == WORKER and row.state in _WAITING and not is_told:
            groups.setdefault((row.node_type, row.state), []).append(row)
    for (node_type, state), members in groups.items():
        # The next to start stands for all: those behind it wait for the same in other words.
        first = min(members, key=lambda row: row.expected_start or math.inf)
        what = f"{_WAITING[state]}: {first.explained}"
        start = first.expected_start
        found.append(WorkerWait(node_type, what, len(members), expected_start=start))
    return found


# By NodeRow.state.
_WAITING = {"queued": "wait in Slurm's queue", "held": "are not submitted yet"}


def _failing(setback: Setback) -> WorkerWait:
    # Slurm's own refusal is no failure of theirs.
    what = f"failed {times_in_a_row(setback.failures)} and " if setback.failures else ""
    what += "are not started any more" if setback.paused else "are tried again"
    log = "".join(f"\n  | {line}" for line in setback.log_tail.splitlines())
    where = f"\n  {setback.log_path}{log}" if setback.log_path else ""
    what += f": {setback.cause}{where}"
    return WorkerWait(setback.node_type, what, fails=True, stays=setback.paused)
