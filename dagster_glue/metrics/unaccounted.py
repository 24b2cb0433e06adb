"""What is known of jobs where accounting cannot be asked: squeue's last word on them (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dagster_glue.metrics.intervals import Window
from dagster_glue.metrics.usage import Figure, Usage, measure
from slurm_provider.slurm import Job, JobRecord


def measure_unaccounted(
    jobs: Iterable[Job], job_ids: Sequence[str], window: Window, *, shared: bool, why: str
) -> Usage:
    """Times from the queue's view of ``jobs``; what only accounting has is unknown.

    ``why`` says what is the matter with accounting.
    """
    records: dict[str, JobRecord] = {}
    for job in jobs:
        record = _record(job, window.end)
        records.update({job.job_id: record, job.raw_id: record})
    known = {job_id: records[job_id] for job_id in job_ids if job_id in records}
    usage = measure(known, job_ids, window, shared=shared)
    unknown = Figure(None, why)
    return replace(
        usage,
        jobs=tuple(replace(job, cpu_s=unknown, peak_memory_bytes=unknown) for job in usage.jobs),
        cpu_efficiency=unknown,
        peak_memory_bytes=unknown,
        total_memory_bytes=unknown,
        gpus=unknown,
        gpu_hours=unknown,
    )


def _record(job: Job, now: float) -> JobRecord:
    start = None if job.state.is_pending else job.start_time  # before that it is a forecast
    end = job.end_time if job.state.is_terminal else None
    elapsed_s = 0.0 if start is None else max(0.0, (now if end is None else end) - start)
    return JobRecord(
        job_id=job.job_id,
        raw_id=job.raw_id,
        name=job.name,
        state=job.state,
        exit_code=0,
        exit_signal=0,
        reason=job.reason,
        elapsed_s=round(elapsed_s),
        cpus=job.cpus,
        total_cpu_s=0.0,
        nodelist=job.nodelist,
        partition=job.partition,
        account="",
        submit_time=job.submit_time,
        start_time=start,
        end_time=end,
        allocated={"node": str(len(job.hosts))} if job.hosts else {},
    )
