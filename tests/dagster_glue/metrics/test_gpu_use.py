from __future__ import annotations

from typing import Any

from dagster_glue.metrics.gpu_use import NOT_ACCOUNTED, GpuFigures, gpu_figures
from dagster_glue.metrics.intervals import Window
from dagster_glue.metrics.usage import measure
from slurm_provider.slurm import GpuUse, JobRecord, JobState, StepRecord

GIB = 1 << 30


def job(job_id: str, use: GpuUse | None, *, gpus: int = 1, elapsed_s: int = 100) -> JobRecord:
    step = StepRecord("batch", JobState.COMPLETED, 0, 0, elapsed_s, 1, 5.0, GIB, use)
    extern = StepRecord("extern", JobState.COMPLETED, 0, 0, elapsed_s, 1, 0.0, 0, use and IDLE)
    values: dict[str, Any] = {
        "raw_id": job_id, "name": "ray", "state": JobState.COMPLETED, "exit_code": 0,
        "exit_signal": 0, "reason": "", "elapsed_s": elapsed_s, "cpus": 1, "total_cpu_s": 5.0,
        "nodelist": "n1", "partition": "p", "account": "a", "submit_time": 0.0,
        "start_time": 100.0, "end_time": 100.0 + elapsed_s,
        "allocated": {"node": "1", **({"gres/gpu": str(gpus)} if gpus else {})},
        "steps": (step, extern),
    }  # fmt: skip
    return JobRecord(job_id=job_id, **values)


IDLE = GpuUse(0.0, 0.0, 0)


def figures(*records: JobRecord, also: tuple[str, ...] = (), shared: bool = False) -> GpuFigures:
    found = {record.job_id: record for record in records}
    return gpu_figures(measure(found, [*found, *also], Window(150, 1000), shared=shared))


def test_utilization_is_of_all_gpus_over_their_time() -> None:
    head = job("1", None, gpus=0)  # no GPU, no figure needed
    found = figures(
        head, job("2", GpuUse(180.0, 200.0, 3 * GIB), gpus=2), job("3", GpuUse(0.0, 40.0, GIB))
    )
    assert found.utilization.value == 60.0
    assert found.peak_utilization.value == 100.0
    assert found.peak_memory_bytes.value == 3 * GIB


def test_a_longer_job_weighs_more() -> None:
    found = figures(
        job("1", GpuUse(90.0, 90.0, GIB), elapsed_s=300), job("2", GpuUse(10.0, 90.0, GIB))
    )
    assert found.utilization.value == 70.0


def test_a_site_without_gpu_accounting_gives_no_number() -> None:
    found = figures(job("1", None))
    assert found.utilization.value is None
    assert found.utilization.why == found.peak_memory_bytes.why == NOT_ACCOUNTED


def test_zeros_everywhere_are_no_measurement() -> None:
    assert figures(job("1", IDLE)).utilization.why.startswith("Slurm accounted nothing at all")


def test_one_unknown_job_makes_the_figure_unknown() -> None:
    known = job("1", GpuUse(90.0, 90.0, GIB))
    assert figures(known, job("2", None)).utilization.value is None
    assert figures(known, also=("9",)).peak_utilization.why == "accounting does not know job 9"


def test_a_shared_clusters_job_that_also_ran_before_gives_no_number() -> None:
    found = figures(job("1", GpuUse(90.0, 90.0, GIB)), shared=True)
    assert found.utilization.why == "job 1 also ran outside this run's time"
