"""What an asset's Slurm jobs used, from accounting records (pure).

A cluster is many jobs and each has many steps: all of them count. Where a figure cannot be known
there is none, with the reason; a figure that is too small for a known reason says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagster_glue.metrics.intervals import Interval, Window, covered_s, most_at_once
from dagster_glue.metrics.job_order import job_order
from slurm_provider.slurm import JobRecord, JobState, StepRecord

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Figure:
    """A number and what is to be said of it."""

    value: float | None
    """None: unknown."""
    why: str = ""
    """Why it is unknown or, with a value, why the truth is greater."""

    @property
    def is_exact(self) -> bool:
        return self.value is not None and not self.why


@dataclass(frozen=True)
class JobUsage:
    """The part of one Slurm job that is the asset's."""

    record: JobRecord
    elapsed_s: float
    cpu_s: Figure
    peak_memory_bytes: Figure
    """Greatest resident memory of any step, as Slurm sampled it: summed over processes, so that
    what they share counts in each."""

    @property
    def nodes(self) -> int:
        return int(self.record.allocated.get("node", 1))

    @property
    def gpus(self) -> int:
        return allocated_gpus(self.record.allocated)

    @property
    def queue_wait_s(self) -> float | None:
        """From submission to start; None for a job that never started."""
        submitted, started = self.record.submit_time, self.record.start_time
        return None if submitted is None or started is None else max(0.0, started - submitted)


@dataclass(frozen=True)
class Usage:
    """What all jobs of an asset used together.

    A shared cluster also served others: ``elapsed_s`` of its jobs, and what follows from it, is
    that of the asset's time window.
    """

    jobs: tuple[JobUsage, ...]
    """By their ids, as people count."""
    shared: bool
    missing: tuple[str, ...]
    """Jobs that accounting does not know (yet)."""
    elapsed: Figure
    """Seconds in which at least one job ran: without waits in the queue."""
    node_hours: Figure
    cpu_hours: Figure
    """CPUs allocated times hours."""
    cpu_efficiency: Figure
    """CPU time of all steps over CPUs allocated times seconds: 1.0 is every CPU busy, more is
    processes on CPUs that were not allocated."""
    peak_memory_bytes: Figure
    """Of the node with the greatest peak."""
    total_memory_bytes: Figure
    """Sum of the peaks of nodes that ran at the same time: never less than what they all used."""
    gpus: Figure
    """Most GPUs allocated at a time; 0 also where accounting does not track GPUs."""
    gpu_hours: Figure
    queue_wait: Figure
    """Seconds the job that waited longest spent in the queue."""


def measure(
    records: Mapping[str, JobRecord], job_ids: Sequence[str], window: Window, *, shared: bool
) -> Usage:
    """Add up ``records``, as ``SlurmClient.history(job_ids)`` returned them."""
    missing = tuple(job_id for job_id in job_ids if job_id not in records)
    different = {(record.job_id, record.raw_id): record for record in records.values()}
    jobs = [_job_usage(record, window, shared) for record in different.values()]
    if shared:  # what was over before, or started after, is not the asset's
        jobs = [job for job in jobs if job.elapsed_s > 0]
    jobs.sort(key=lambda job: job_order(job.record.job_id))
    ran = [job for job in jobs if job.record.start_time is not None and job.elapsed_s > 0]
    too_small = _why_too_small(ran, missing, shared)
    return Usage(
        jobs=tuple(jobs),
        shared=shared,
        missing=missing,
        elapsed=_elapsed(ran, window, shared, too_small),
        node_hours=Figure(sum(j.nodes * j.elapsed_s for j in ran) / _HOUR_S, too_small),
        cpu_hours=Figure(sum(j.record.cpus * j.elapsed_s for j in ran) / _HOUR_S, too_small),
        cpu_efficiency=_cpu_efficiency(ran, missing),
        peak_memory_bytes=_greatest([j.peak_memory_bytes for j in ran], missing),
        total_memory_bytes=_total_memory(ran, missing),
        gpus=Figure(
            most_at_once((_interval(j.record, window.end), j.gpus) for j in ran), _missing(missing)
        ),
        gpu_hours=Figure(sum(j.gpus * j.elapsed_s for j in ran) / _HOUR_S, too_small),
        queue_wait=_queue_wait(jobs, window, shared, missing),
    )


def is_complete(record: JobRecord) -> bool:
    """Whether accounting has the last word on a job and on each of its steps.

    sacct knows of a job's end before that of its steps, and lends them the job's state until then
    (seen on 22.05: CANCELLED for two seconds, with no CPU time). So the figures are looked at:
    every real step has used some CPU time.
    """
    if not record.state.is_terminal:
        return False
    if record.state is JobState.NODE_FAIL:  # its steps may stay open for ever
        return True
    if record.start_time is None or not record.elapsed_s:
        return True
    return bool(record.steps) and all(map(_is_accounted, record.steps))


def _is_accounted(step: StepRecord) -> bool:
    if not step.state.is_terminal:
        return False
    # The external step holds what others start in the job; mostly that is nothing.
    return step.step == "extern" or step.total_cpu_s > 0 or step.max_rss_bytes is not None


def allocated_gpus(allocated: Mapping[str, str]) -> int:
    """GPUs in trackable resources; ``gres/gpu`` counts those of every type."""
    if "gres/gpu" in allocated:
        return int(allocated["gres/gpu"])
    return sum(int(count) for name, count in allocated.items() if name.startswith("gres/gpu:"))


def _job_usage(record: JobRecord, window: Window, shared: bool) -> JobUsage:
    elapsed_s = float(record.elapsed_s)
    within = True
    if shared:
        start = record.start_time
        end = record.end_time if record.end_time is not None else window.end
        elapsed_s = 0.0 if start is None else min(elapsed_s, window.overlap_s(start, end))
        within = start is not None and start >= window.start and end <= window.end
    return JobUsage(record, elapsed_s, _cpu_time(record, within), _peak_memory(record, within))


def _cpu_time(record: JobRecord, within: bool) -> Figure:
    if unknown := _why_unknown(record, within):
        return Figure(None, unknown)
    by_steps = sum(step.total_cpu_s for step in record.steps)
    return Figure(max(by_steps, record.total_cpu_s))


def _peak_memory(record: JobRecord, within: bool) -> Figure:
    if unknown := _why_unknown(record, within):
        return Figure(None, unknown)
    peak = record.max_rss_bytes
    if not peak:  # a step that ended before the first sample has none, or 0
        return Figure(None, f"no memory of job {record.job_id} is accounted")
    # Slurm keeps the greatest task's memory. The batch script's processes are one task; another
    # step may have had several on a node.
    of_script = any(s.step == "batch" and s.max_rss_bytes == peak for s in record.steps)
    if int(record.allocated.get("node", 1)) > 1 or not of_script:
        return Figure(peak, f"of job {record.job_id}, only the greatest task's memory is accounted")
    return Figure(peak)


def _why_unknown(record: JobRecord, within: bool) -> str:
    """Why the steps' figures are not those of the job within the window."""
    if record.state is JobState.NODE_FAIL:
        return f"job {record.job_id} died with its node, which accounted nothing"
    if not record.state.is_terminal:
        return f"job {record.job_id} has not ended: Slurm accounts a step at its end"
    if not within:
        return f"job {record.job_id} also ran outside this run's time"
    return "" if is_complete(record) else f"what job {record.job_id} used is not accounted"


def _elapsed(ran: Sequence[JobUsage], window: Window, shared: bool, too_small: str) -> Figure:
    if not ran:
        return Figure(None, too_small) if too_small else Figure(0.0)
    if not shared:
        return Figure(covered_s(_interval(job.record) for job in ran), too_small)
    elapsed_s = covered_s(window.cut(_interval(job.record, window.end)) for job in ran)
    # No job that is missing can add to all of the window.
    return Figure(elapsed_s, too_small if elapsed_s < window.length_s else "")


def _cpu_efficiency(ran: Sequence[JobUsage], missing: Sequence[str]) -> Figure:
    unknown = _missing(missing) or next((j.cpu_s.why for j in ran if not j.cpu_s.is_exact), "")
    used_s = sum(job.cpu_s.value or 0.0 for job in ran)
    allocated_s = sum(job.record.cpus * _longest_s(job.record) for job in ran)
    if unknown or not allocated_s:
        return Figure(None, unknown or "no job ran for a second")
    # Steps may end after their job (seen: a job of 4 s, its batch step of 6 s), and sacct cuts both
    # to whole seconds: a bit too much CPU time is CPUs that were always busy. What a second more
    # cannot explain is real, of a site that does not bind processes to the CPUs allocated.
    second_more_s = allocated_s + sum(job.record.cpus for job in ran)
    return Figure(1.0 if allocated_s < used_s < second_more_s else used_s / allocated_s)


def _longest_s(record: JobRecord) -> int:
    return max([record.elapsed_s, *(step.elapsed_s for step in record.steps)])


def _greatest(figures: Sequence[Figure], missing: Sequence[str]) -> Figure:
    known = [figure.value for figure in figures if figure.value is not None]
    why = _missing(missing) or next((f.why for f in figures if f.why), "")
    if not known:
        return Figure(None, why or "no job ran for a second")
    return Figure(max(known), why)


def _total_memory(ran: Sequence[JobUsage], missing: Sequence[str]) -> Figure:
    why = _missing(missing)
    why = why or next((j.peak_memory_bytes.why for j in ran if j.peak_memory_bytes.why), "")
    if why or not ran:
        return Figure(None, why or "no job ran for a second")
    return Figure(
        most_at_once((_interval(j.record), int(j.peak_memory_bytes.value or 0)) for j in ran)
    )


def _queue_wait(
    jobs: Sequence[JobUsage], window: Window, shared: bool, missing: Sequence[str]
) -> Figure:
    waits = [
        job.queue_wait_s
        for job in jobs
        if job.queue_wait_s is not None
        and not (shared and (job.record.submit_time or 0.0) < window.start)
    ]
    if waits:
        return Figure(max(waits), _missing(missing))
    if missing:
        return Figure(None, _missing(missing))
    return Figure(0.0) if shared else Figure(None, "no job has started")


def _interval(record: JobRecord, now: float = 0.0) -> Interval:
    """When the job ran; one that still runs does so at least until ``now``."""
    start = record.start_time or 0.0
    return start, max(start + record.elapsed_s, now) if record.end_time is None else record.end_time


def _why_too_small(ran: Sequence[JobUsage], missing: Sequence[str], shared: bool) -> str:
    if missing:
        return _missing(missing)
    still = [job.record.job_id for job in ran if job.record.end_time is None]
    return f"job {still[0]} still runs" if still and not shared else ""


def _missing(missing: Sequence[str]) -> str:
    if not missing:
        return ""
    verb = "job" if len(missing) == 1 else "jobs"
    return f"accounting does not know {verb} {', '.join(missing[:5])}"
