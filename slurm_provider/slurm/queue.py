"""One squeue for everything: its argv, and its text into jobs (pure).

The format is made so that the listing proves itself complete: it keeps its header (an empty queue
still prints one, a failed squeue with exit code 0 does not), fields are separated by a unit
separator and records ended by a record separator, both of which survive squeue's --format (tried
on 22.05), and the job's name, the only field with free text of other software, comes last.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from slurm_provider.slurm.errors import SlurmOutputError
from slurm_provider.slurm.quantities import parse_time_s
from slurm_provider.slurm.states import JobState, parse_state

FIELD_SEPARATOR = "\x1f"
RECORD_END = "\x1e"

EPOCH_TIMES = ("env", "SLURM_TIME_FORMAT=%s")
"""Prefix of argv that makes Slurm print times as epoch seconds, whatever the host's time zone."""


@dataclass(frozen=True)
class Job:
    """One job, array task or component of a heterogeneous job, as squeue shows it.

    Times are epoch seconds; None where Slurm says nothing.
    """

    job_id: str
    """As people see it and as scancel takes it: ``42``, ``111_1``, ``106+1``."""
    raw_id: str
    """``SLURM_JOB_ID`` inside the job. A pending array task still has its array's."""
    state: JobState
    reason: str
    """Why it is pending, or why it ended; see ``explain``."""
    partition: str
    nodelist: str
    """As Slurm prints it; see ``hosts``."""
    submit_time: float | None
    start_time: float | None
    """Real start, or the expected one of a pending job."""
    end_time: float | None
    time_limit_s: int | None
    """None: no limit, or not known yet."""
    cpus: int
    name: str

    @property
    def hosts(self) -> tuple[str, ...]:
        """Host names, if the list is written out; empty for ranges such as ``n[1-3]``."""
        if not self.nodelist or "[" in self.nodelist:
            return ()
        return tuple(self.nodelist.split(","))

    @property
    def array_id(self) -> str | None:
        """Id of the whole array, if this is a task of one."""
        base, underscore, _ = self.job_id.partition("_")
        return base if underscore else None

    @property
    def hetjob_id(self) -> str | None:
        """Id of the whole heterogeneous job, if this is a component of one."""
        base, plus, _ = self.job_id.partition("+")
        return base if plus else None


def queue_argv(clusters: str | None = None, job_id: str | None = None) -> list[str]:
    """The squeue command that lists all jobs of the user, or one; finished ones too (MinJobAge)."""
    argv = [*EPOCH_TIMES, "squeue", "--me", "--states=all", "--array", f"--format={_FORMAT}"]
    if job_id is not None:
        argv.append(f"--jobs={job_id}")
    if clusters is not None:
        argv.append(f"--clusters={clusters}")
    return argv


def parse_queue(text: str) -> list[Job]:
    """The jobs of a listing made by ``queue_argv``.

    Raises SlurmOutputError if the text is not a whole listing: it is never shortened silently.
    """
    header, *records = text.split(_RECORD_LINE_END)
    names = header.split("\n")[-1].split(FIELD_SEPARATOR)  # `--clusters` adds "CLUSTER: name"
    if names[0] != "JOBID" or len(names) != _FIELD_COUNT or not records:
        raise SlurmOutputError(_problem("its output has no header", text))
    if records.pop():
        raise SlurmOutputError(_problem("its output ends within a record", text[-200:]))
    # A listing of thousands repeats the same few texts, and this runs in every autoscaler tick.
    states, times = _Memo(parse_state), _Memo(epoch_s)
    limits, numbers = _Memo(_time_limit_s), _Memo(int)
    jobs: list[Job] = []
    for record in records:
        try:
            (
                job_id,
                raw_id,
                state,
                reason,
                partition,
                nodelist,
                submit,
                start,
                end,
                limit,
                cpus,
                name,
            ) = record.split(FIELD_SEPARATOR, _FIELD_COUNT - 1)
            job = Job(
                job_id,
                raw_id,
                states[state],
                reason,
                partition,
                nodelist,
                times[submit],
                times[start],
                times[end],
                limits[limit],
                numbers[cpus],
                name,
            )
        except ValueError as error:
            raise SlurmOutputError(_problem(f"a record is unreadable ({error})", record)) from None
        jobs.append(job)
    return jobs


_Value = TypeVar("_Value")


class _Memo(dict[str, _Value]):
    """Converts each distinct text once."""

    def __init__(self, convert: Callable[[str], _Value]) -> None:
        super().__init__()
        self._convert = convert

    def __missing__(self, text: str) -> _Value:
        value = self[text] = self._convert(text)
        return value


def epoch_s(text: str) -> float | None:
    """Seconds of a time of squeue or sacct under EPOCH_TIMES; None if it has none."""
    if text in ("N/A", "NONE", "Unknown", "None", ""):
        return None
    if not _EPOCH.fullmatch(text):
        raise ValueError(f"time {text!r} is not in epoch seconds: SLURM_TIME_FORMAT was ignored")
    return float(text)


def _time_limit_s(text: str) -> int | None:
    if text in ("NOT_SET", "Partition_Limit", "INVALID", "N/A", "n/a", ""):
        return None
    return parse_time_s(text)


def _problem(cause: str, text: str) -> str:
    return f"squeue: {cause}: {text[:200]!r}. Try `squeue --me` by hand; a wrapper may change it"


_EPOCH = re.compile(r"[0-9]{1,12}")
# The order of Job's fields up to name. `man squeue`, --format.
_FORMAT_LETTERS = "iATrPNVSelCj"
_FIELD_COUNT = len(_FORMAT_LETTERS)
_FORMAT = FIELD_SEPARATOR.join(f"%{letter}" for letter in _FORMAT_LETTERS) + RECORD_END
_RECORD_LINE_END = RECORD_END + "\n"
