"""Usage as Dagster shows it (pure)."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg

from dagster_glue.metrics.gpu_use import GpuFigures, gpu_figures
from dagster_glue.metrics.usage import Figure, JobUsage, Usage

_MIB = 1 << 20
_MOST_ROWS = 200  # a table in the UI is for reading; the totals count every job
_NUMBERS: tuple[tuple[str, Callable[[Usage], Figure], float, int], ...] = (
    ("slurm_elapsed_s", lambda usage: usage.elapsed, 1.0, 1),
    ("slurm_node_hours", lambda usage: usage.node_hours, 1.0, 4),
    ("slurm_cpu_hours", lambda usage: usage.cpu_hours, 1.0, 4),
    ("slurm_cpu_efficiency_percent", lambda usage: usage.cpu_efficiency, 100.0, 2),
    ("slurm_peak_memory_mib", lambda usage: usage.peak_memory_bytes, 1 / _MIB, 1),
    ("slurm_peak_memory_all_nodes_mib", lambda usage: usage.total_memory_bytes, 1 / _MIB, 1),
    ("slurm_queue_wait_s", lambda usage: usage.queue_wait, 1.0, 1),
)
_GPU_NUMBERS: tuple[tuple[str, Callable[[Usage], Figure], float, int], ...] = (
    ("slurm_gpus", lambda usage: usage.gpus, 1.0, 0),
    ("slurm_gpu_hours", lambda usage: usage.gpu_hours, 1.0, 4),
)
_GPU_USE_NUMBERS: tuple[tuple[str, Callable[[GpuFigures], Figure], float, int], ...] = (
    ("slurm_gpu_utilization_percent", lambda gpus: gpus.utilization, 1.0, 1),
    ("slurm_gpu_peak_utilization_percent", lambda gpus: gpus.peak_utilization, 1.0, 1),
    ("slurm_gpu_peak_memory_mib", lambda gpus: gpus.peak_memory_bytes, 1 / _MIB, 1),
)


def usage_metadata(usage: Usage, *, asked_for_gpus: bool = False) -> dict[str, dg.MetadataValue]:
    """Numbers where they are known; words where they are not or where the truth is greater.

    ``asked_for_gpus`` tells no GPUs from GPUs that the site's accounting does not track.
    """
    metadata = {key: _shown(get(usage), scale, digits) for key, get, scale, digits in _NUMBERS}
    if asked_for_gpus or usage.gpus.value:
        for key, get, scale, digits in _GPU_NUMBERS:
            figure = get(usage)
            if not figure.value and not figure.why:
                figure = Figure(None, "Slurm's accounting here does not track GPUs")
            metadata[key] = _shown(figure, scale, digits)
        use = gpu_figures(usage)
        for key, of_use, scale, digits in _GPU_USE_NUMBERS:
            metadata[key] = _shown(of_use(use), scale, digits)
    if usage.shared:
        metadata["slurm_usage_of"] = dg.MetadataValue.text(
            "a shared cluster: times are those within this run's own time window, in which other "
            "runs may have used the same nodes"
        )
    metadata["slurm_job_states"] = dg.MetadataValue.json(
        {job.record.job_id: job.record.state.value for job in usage.jobs}
        | dict.fromkeys(usage.missing, "unknown")
    )
    if usage.jobs:
        metadata["slurm_jobs"] = _table(usage)
    return metadata


def _shown(figure: Figure, scale: float, digits: int) -> dg.MetadataValue:
    if figure.value is None:
        return dg.MetadataValue.text(f"unknown: {figure.why}")
    number = round(figure.value * scale, digits)
    if figure.why:
        return dg.MetadataValue.text(f"at least {number:g}: {figure.why}")
    return dg.MetadataValue.float(number) if digits else dg.MetadataValue.int(int(number))


def _table(usage: Usage) -> dg.TableMetadataValue:
    columns = [
        dg.TableColumn("job", "string"),
        dg.TableColumn("state", "string"),
        dg.TableColumn("hosts", "string"),
        dg.TableColumn("partition", "string"),
        dg.TableColumn("cpus", "int"),
        dg.TableColumn("gpus", "int"),
        dg.TableColumn("queue_wait_s", "float"),
        dg.TableColumn("elapsed_s", "float"),
        dg.TableColumn("cpu_s", "float"),
        dg.TableColumn("peak_memory_mib", "float"),
    ]
    return dg.MetadataValue.table(
        [dg.TableRecord(_row(job)) for job in usage.jobs[:_MOST_ROWS]],
        dg.TableSchema(columns=columns),
    )


def _row(job: JobUsage) -> dict[str, str | int | float | None]:
    """An empty cell is unknown."""
    record, memory, wait_s = job.record, job.peak_memory_bytes.value, job.queue_wait_s
    return {
        "job": record.job_id,
        "state": record.state.value,
        "hosts": record.nodelist,
        "partition": record.partition,
        "cpus": record.cpus,
        "gpus": job.gpus,
        "queue_wait_s": None if wait_s is None else round(wait_s, 1),
        "elapsed_s": round(job.elapsed_s, 1),
        "cpu_s": None if job.cpu_s.value is None else round(job.cpu_s.value, 1),
        "peak_memory_mib": None if memory is None else round(memory / _MIB, 1),
    }
