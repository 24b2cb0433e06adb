"""A transport that runs nothing: it answers from a script of outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from slurm_provider.slurm.queue import FIELD_SEPARATOR, RECORD_END
from slurm_provider.transport import Completed

QUEUE_HEADER = (
    "JOBID",
    "JOBID",
    "STATE",
    "REASON",
    "PARTITION",
    "NODELIST",
    "SUBMIT_TIME",
    "START_TIME",
    "END_TIME",
    "TIME_LIMIT",
    "CPUS",
    "NAME",
)


@dataclass
class FakeTransport:
    """Gives the next outcome (a Completed or an exception) for each command, and notes it."""

    outcomes: list[Completed | Exception] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    timeouts_s: list[float] = field(default_factory=list)
    label: str = "here"

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        self.commands.append(list(argv))
        self.timeouts_s.append(timeout_s)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def answer(stdout: str = "", stderr: str = "", returncode: int = 0) -> Completed:
    return Completed((), returncode, stdout, stderr)


def records(*rows: Sequence[str]) -> str:
    """Rows as squeue and sinfo print them with our separators."""
    return "".join(FIELD_SEPARATOR.join(row) + RECORD_END + "\n" for row in rows)


def queue_text(*rows: Sequence[str]) -> str:
    return records(QUEUE_HEADER, *rows)


def queue_row(job_id: str = "42", *, state: str = "RUNNING", name: str = "x") -> list[str]:
    return [
        job_id,
        "42",
        state,
        "None",
        "debug",
        "n1",
        "1795392331",
        "1795392331",
        "NONE",
        "UNLIMITED",
        "4",
        name,
    ]


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()
