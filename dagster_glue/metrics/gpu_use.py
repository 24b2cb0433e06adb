"""How busy an asset's GPUs were, where the site accounts it (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dagster_glue.metrics.usage import Figure, JobUsage, Usage
from slurm_provider.slurm import GpuUse

NOT_ACCOUNTED = "not accounted on this site"
# Sites report zeros for GPUs that their plugin cannot sample (partitioned ones, other makers').
_ALL_ZERO = "Slurm accounted nothing at all: idle, or GPUs that it cannot sample"


@dataclass(frozen=True)
class GpuFigures:
    """Percent of one GPU, averaged over the GPUs allocated."""

    utilization: Figure
    """On average, as Slurm averages its samples."""
    peak_utilization: Figure
    """In the greatest sample of any job."""
    peak_memory_bytes: Figure
    """Of the job with the greatest peak, all its GPUs together."""


def gpu_figures(usage: Usage) -> GpuFigures:
    """Of the jobs that had GPUs; unknown as soon as one of them is."""
    jobs = [job for job in usage.jobs if job.gpus and job.elapsed_s > 0]
    uses = [_use(job) for job in jobs]
    unknown = next((use for use in uses if isinstance(use, str)), "")
    if usage.missing and not unknown:
        unknown = f"accounting does not know job {usage.missing[0]}"
    if usage.gpus.value is None and not unknown:
        unknown = usage.gpus.why
    if unknown or not jobs:
        figure = Figure(None, unknown or "no job with GPUs is accounted")
        return GpuFigures(figure, figure, figure)
    known = [use for use in uses if isinstance(use, GpuUse)]
    gpu_s = sum(job.gpus * job.elapsed_s for job in jobs)
    return GpuFigures(
        utilization=_combined(
            [use.average_percent for use in known],
            lambda values: sum(v * j.elapsed_s for v, j in zip(values, jobs, strict=True)) / gpu_s,
        ),
        peak_utilization=_combined(
            [use.peak_percent for use in known],
            lambda values: max(v / job.gpus for v, job in zip(values, jobs, strict=True)),
        ),
        peak_memory_bytes=_combined([use.peak_memory_bytes for use in known], max),
    )


def _use(job: JobUsage) -> GpuUse | str:
    """What the job's processes used, or why that is unknown."""
    if job.cpu_s.value is None:  # nothing of its steps is known
        return job.cpu_s.why
    uses = [step.gpu_use for step in job.record.steps if step.gpu_use is not None]
    if not uses:
        return NOT_ACCOUNTED
    use = max(uses, key=lambda use: (use.peak_percent or 0.0, use.peak_memory_bytes or 0))
    return use if use.peak_percent or use.peak_memory_bytes else _ALL_ZERO


def _combined(
    values: Sequence[float | None], combine: Callable[[Sequence[float]], float]
) -> Figure:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return Figure(None, NOT_ACCOUNTED)
    return Figure(combine(known))
