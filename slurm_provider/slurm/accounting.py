"""sacct: what became of jobs, for many jobs in one call (pure).

The job's own row sums up all its steps, also those that `ray` started with srun; reading only
the ``.batch`` row would miss their CPU time. Memory is known per step only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from slurm_provider.slurm.errors import SlurmOutputError
from slurm_provider.slurm.job_ids import expand_tasks
from slurm_provider.slurm.queue import EPOCH_TIMES, FIELD_SEPARATOR, epoch_s
from slurm_provider.slurm.states import JobState, parse_state


@dataclass(frozen=True)
class GpuUse:
    """What Slurm sampled of a step's GPUs; None where it could not.

    Utilization is summed over the step's GPUs: two busy ones are 200.
    """

    average_percent: float | None
    peak_percent: float | None
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class StepRecord:
    """One step of a job: ``batch``, ``extern``, ``0``, ..."""

    step: str
    state: JobState
    exit_code: int
    exit_signal: int
    elapsed_s: int
    cpus: int
    total_cpu_s: float
    max_rss_bytes: int | None
    gpu_use: GpuUse | None = None
    """None where the site does not account it."""


@dataclass(frozen=True)
class JobRecord:
    """A job as the accounting database knows it. Times are epoch seconds, None if not reached.

    ``total_cpu_s`` is user and system time of all steps that have ended; the database learns of
    a running step's time only at its end.
    """

    job_id: str
    """As squeue shows it. Array tasks that never started share one record: ``2_[1-3]``."""
    raw_id: str
    name: str
    state: JobState
    exit_code: int
    exit_signal: int
    reason: str
    elapsed_s: int
    cpus: int
    total_cpu_s: float
    nodelist: str
    partition: str
    account: str
    submit_time: float | None
    start_time: float | None
    end_time: float | None
    allocated: Mapping[str, str]
    """Trackable resources: ``{"cpu": "4", "mem": "100M", "gres/gpu": "1"}``; empty if none."""
    steps: tuple[StepRecord, ...] = field(default=())

    @property
    def max_rss_bytes(self) -> int | None:
        """Greatest resident memory of any task of any step; None if no step reported it."""
        known = [step.max_rss_bytes for step in self.steps if step.max_rss_bytes is not None]
        return max(known, default=None)


def history_argv(job_ids: Sequence[str], clusters: str | None = None) -> list[str]:
    """The sacct command for these jobs; without a start date, as `-j` then looks at all time."""
    argv = [
        *EPOCH_TIMES,
        "sacct",
        "--parsable2",
        f"--delimiter={FIELD_SEPARATOR}",
        f"--format={','.join(_FIELDS)}",
        f"--jobs={','.join(job_ids)}",
    ]
    if clusters is not None:
        argv.append(f"--clusters={clusters}")
    return argv


def parse_history(text: str) -> list[JobRecord]:
    """The records of a listing made by ``history_argv``. Raises SlurmOutputError."""
    rows = _rows(text)
    jobs: dict[str, JobRecord] = {}
    steps: dict[str, list[StepRecord]] = {}
    for row in rows:
        job_id, _, step = row["JobID"].partition(".")
        try:
            if step:
                steps.setdefault(job_id, []).append(_step(step, row))
            else:
                jobs[job_id] = _job(row)
        except ValueError as error:
            raise SlurmOutputError(f"sacct: a record is unreadable ({error}): {row}") from None
    return [
        JobRecord(**{**vars(job), "steps": tuple(steps.get(job_id, ()))})
        for job_id, job in jobs.items()
    ]


def records_by_id(records: Iterable[JobRecord], job_ids: Iterable[str]) -> dict[str, JobRecord]:
    """The record of each asked id that has one; ids may be display ids or raw ids.

    Array tasks that were cancelled before they started are found in their common record.
    """
    found: dict[str, JobRecord] = {}
    for record in records:
        found.setdefault(record.raw_id, record)
    for record in records:
        for job_id in expand_tasks(record.job_id):
            found[job_id] = record
    return {job_id: found[job_id] for job_id in job_ids if job_id in found}


def _rows(text: str) -> list[dict[str, str]]:
    lines = text.split("\n")
    if lines[0].split(FIELD_SEPARATOR) != list(_FIELDS):
        raise SlurmOutputError(f"sacct: no header of the fields asked for: {lines[0][:200]!r}")
    rows: list[dict[str, str]] = []
    pending = ""
    for line in lines[1:]:
        # A job's name may contain line breaks; a record is whole when all its fields are there.
        pending = f"{pending}\n{line}" if pending else line
        missing = len(_FIELDS) - 1 - pending.count(FIELD_SEPARATOR)
        if missing < 0:
            raise SlurmOutputError(f"sacct: a record has too many fields: {pending[:200]!r}")
        if pending and not missing:
            rows.append(dict(zip(_FIELDS, pending.split(FIELD_SEPARATOR), strict=True)))
            pending = ""
    if pending:
        raise SlurmOutputError(f"sacct: the last record is not whole: {pending[:200]!r}")
    return rows


def _job(row: Mapping[str, str]) -> JobRecord:
    exit_code, exit_signal = _exit(row["ExitCode"])
    return JobRecord(
        job_id=row["JobID"],
        raw_id=row["JobIDRaw"],
        name=row["JobName"],
        state=parse_state(row["State"]),
        exit_code=exit_code,
        exit_signal=exit_signal,
        reason=row["Reason"],
        elapsed_s=int(row["ElapsedRaw"] or 0),
        cpus=int(row["AllocCPUS"] or 0),
        total_cpu_s=parse_cpu_time_s(row["TotalCPU"]),
        nodelist="" if row["NodeList"] == "None assigned" else row["NodeList"],
        partition=row["Partition"],
        account=row["Account"],
        submit_time=epoch_s(row["Submit"]),
        start_time=epoch_s(row["Start"]),
        end_time=epoch_s(row["End"]),
        allocated=_tres(row["AllocTRES"]),
    )


def _step(step: str, row: Mapping[str, str]) -> StepRecord:
    exit_code, exit_signal = _exit(row["ExitCode"])
    return StepRecord(
        step=step,
        state=parse_state(row["State"]),
        exit_code=exit_code,
        exit_signal=exit_signal,
        elapsed_s=int(row["ElapsedRaw"] or 0),
        cpus=int(row["AllocCPUS"] or 0),
        total_cpu_s=parse_cpu_time_s(row["TotalCPU"]),
        max_rss_bytes=parse_size_bytes(row["MaxRSS"]),
        gpu_use=parse_gpu_use(row["TRESUsageInAve"], row["TRESUsageInMax"]),
    )


def parse_cpu_time_s(text: str) -> float:
    """Seconds of sacct's ``[days-[hours:]]minutes:seconds[.fraction]``; empty is zero.

    Raises ValueError.
    """
    if not text:
        return 0.0
    match = _CPU_TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a CPU time")
    seconds = 0.0
    for part in match["clock"].split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + int(match["days"] or 0) * 86400


def parse_size_bytes(text: str) -> int | None:
    """Bytes of sacct's ``3212K``, ``1.50G`` or ``0``; None if empty. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        if text:
            raise ValueError(f"{text!r} is not a size")
        return None
    factor: int = 1024 ** " KMGTP".index(match["unit"] or " ")
    return round(float(match["number"]) * factor)


def parse_gpu_use(average: str, peak: str) -> GpuUse | None:
    """GPU figures of TRESUsageInAve and TRESUsageInMax; None if there are none.

    Slurm has them where AccountingStorageTRES lists ``gres/gpuutil`` and ``gres/gpumem`` and its
    GPU plugin can sample. Memory comes as ``1030M`` or in bytes; what could not be sampled comes
    as a number near 2^64.
    """
    averages, peaks = _tres(average), _tres(peak)
    if not any(key in tres for tres in (averages, peaks) for key in (_GPU_UTIL, _GPU_MEM)):
        return None
    memory = _sampled(peaks.get(_GPU_MEM))
    return GpuUse(
        average_percent=_sampled(averages.get(_GPU_UTIL)),
        peak_percent=_sampled(peaks.get(_GPU_UTIL)),
        peak_memory_bytes=None if memory is None else round(memory),
    )


def _sampled(text: str | None) -> float | None:
    try:
        value = parse_size_bytes(text or "")
    except ValueError:  # not worth losing the record
        return None
    return None if value is None or value >= _NOT_SAMPLED else value


def _exit(text: str) -> tuple[int, int]:
    code, _, signal = text.partition(":")
    return int(code or 0), int(signal or 0)


def _tres(text: str) -> dict[str, str]:
    return dict(_pair(entry) for entry in text.split(",") if "=" in entry)


def _pair(entry: str) -> tuple[str, str]:
    key, _, value = entry.partition("=")
    return key, value


# Fields that exist under these names from 22.05 to 26.05; those with free text of users
# (SubmitLine, Comment, WorkDir) are left out, and the name is not last: see _rows.
_FIELDS = (
    "JobID",
    "JobIDRaw",
    "JobName",
    "State",
    "ExitCode",
    "Reason",
    "ElapsedRaw",
    "AllocCPUS",
    "TotalCPU",
    "MaxRSS",
    "NodeList",
    "Partition",
    "Account",
    "Submit",
    "Start",
    "End",
    "AllocTRES",
    "TRESUsageInAve",
    "TRESUsageInMax",
)
_GPU_UTIL, _GPU_MEM = "gres/gpuutil", "gres/gpumem"
_NOT_SAMPLED = 1 << 60
_SIZE = re.compile(r"(?P<number>[0-9]{1,20}(?:\.[0-9]+)?)(?P<unit>[KMGTP]?)")
_CPU_TIME = re.compile(
    r"(?:(?P<days>[0-9]{1,9})-)?(?P<clock>[0-9]{1,12}(?::[0-9]{1,12}){0,2}(?:\.[0-9]+)?)"
)
