from __future__ import annotations

from dataclasses import replace
from typing import Any

import dagster as dg

from dagster_glue.metrics import Window, measure, usage_metadata
from slurm_provider.slurm import GpuUse, JobRecord, JobState, StepRecord

MIB = 1 << 20


def job(job_id: str = "42", **keys: Any) -> JobRecord:
    values: dict[str, Any] = {
        "raw_id": job_id, "name": "ray", "state": JobState.COMPLETED, "exit_code": 0,
        "exit_signal": 0, "reason": "", "elapsed_s": 360, "cpus": 2, "total_cpu_s": 180.0,
        "nodelist": "n1", "partition": "compute", "account": "a", "submit_time": 90.0,
        "start_time": 100.0, "end_time": 460.0, "allocated": {"node": "1"},
        "steps": (StepRecord("batch", JobState.COMPLETED, 0, 0, 360, 2, 180.0, 512 * MIB),),
    }  # fmt: skip
    return JobRecord(job_id=job_id, **{**values, **keys})


def shown(*records: JobRecord, also: tuple[str, ...] = (), shared: bool = False,
          asked_for_gpus: bool = False) -> dict[str, Any]:  # fmt: skip
    found = {record.job_id: record for record in records}
    usage = measure(found, [*found, *also], Window(0, 1000), shared=shared)
    metadata = usage_metadata(usage, asked_for_gpus=asked_for_gpus)
    dg.MaterializeResult(metadata=metadata)  # Dagster takes it
    return {key: value.value for key, value in metadata.items()}


def test_known_figures_are_numbers() -> None:
    metadata = shown(job())
    assert metadata["slurm_elapsed_s"] == 360.0
    assert metadata["slurm_node_hours"] == 0.1
    assert metadata["slurm_cpu_hours"] == 0.2
    assert metadata["slurm_cpu_efficiency_percent"] == 25.0
    assert metadata["slurm_peak_memory_mib"] == 512.0
    assert metadata["slurm_peak_memory_all_nodes_mib"] == 512.0
    assert metadata["slurm_queue_wait_s"] == 10.0
    assert metadata["slurm_job_states"] == {"42": "COMPLETED"}
    assert "slurm_usage_of" not in metadata


def test_each_job_is_a_row_and_what_is_unknown_an_empty_cell() -> None:
    running = job("43", state=JobState.RUNNING, end_time=None, steps=())
    usage = measure({"42": job(), "43": running}, ["42", "43"], Window(0, 1000), shared=False)
    table = usage_metadata(usage)["slurm_jobs"]
    assert isinstance(table, dg.TableMetadataValue)
    assert dict(table.records[0].data) == {
        "job": "42", "state": "COMPLETED", "hosts": "n1", "partition": "compute", "cpus": 2,
        "gpus": 0, "queue_wait_s": 10.0, "elapsed_s": 360.0, "cpu_s": 180.0,
        "peak_memory_mib": 512.0,
    }  # fmt: skip
    assert table.records[1].data["cpu_s"] is None
    assert table.records[1].data["peak_memory_mib"] is None


def test_the_times_of_a_row_are_rounded() -> None:
    running = job(state=JobState.RUNNING, end_time=None, submit_time=98.7654, steps=())
    usage = measure({"42": running}, ["42"], Window(100, 132.41210150718689), shared=True)
    table = usage_metadata(usage)["slurm_jobs"]
    assert isinstance(table, dg.TableMetadataValue)
    row = table.records[0].data
    assert (row["elapsed_s"], row["queue_wait_s"]) == (32.4, 1.2)


def test_a_figure_that_is_too_small_is_words_with_the_reason() -> None:
    metadata = shown(job(), also=("43",))
    assert metadata["slurm_node_hours"] == "at least 0.1: accounting does not know job 43"
    assert metadata["slurm_cpu_efficiency_percent"] == "unknown: accounting does not know job 43"
    assert metadata["slurm_job_states"] == {"42": "COMPLETED", "43": "unknown"}


def test_gpus_show_where_there_are_any() -> None:
    assert not any("gpu" in key for key in shown(job()))
    metadata = shown(job(allocated={"node": "1", "gres/gpu": "2"}))
    assert metadata["slurm_gpus"] == 2
    assert metadata["slurm_gpu_hours"] == 0.2
    assert metadata["slurm_gpu_utilization_percent"] == "unknown: not accounted on this site"


def test_the_use_of_gpus_shows_where_it_is_accounted() -> None:
    use = GpuUse(average_percent=60.0, peak_percent=200.0, peak_memory_bytes=512 * MIB)
    batch = replace(job().steps[0], gpu_use=use)
    metadata = shown(job(allocated={"node": "1", "gres/gpu": "2"}, steps=(batch,)))
    assert metadata["slurm_gpu_utilization_percent"] == 30.0
    assert metadata["slurm_gpu_peak_utilization_percent"] == 100.0
    assert metadata["slurm_gpu_peak_memory_mib"] == 512.0


def test_gpus_that_accounting_does_not_track_are_unknown_not_zero() -> None:
    metadata = shown(job(), asked_for_gpus=True)
    assert metadata["slurm_gpus"] == "unknown: Slurm's accounting here does not track GPUs"


def test_a_shared_cluster_is_marked() -> None:
    metadata = shown(job(), shared=True)
    assert metadata["slurm_usage_of"].startswith("a shared cluster")


def test_no_job_at_all_is_no_number() -> None:
    metadata = shown(also=("43",))
    assert metadata["slurm_elapsed_s"] == "unknown: accounting does not know job 43"
    assert "slurm_jobs" not in metadata
