"""What of a cluster's Slurm jobs is a run's, where the cluster goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from dagster_glue.metadata import Footprint, footprint_metadata
from dagster_glue.metrics import Window
from slurm_provider.slurm import Job, JobRecord, JobState, SlurmClient

START = 10_000.0
WINDOW = Window(START, START + 100)


def record(job_id: str, start: float, end: float | None) -> JobRecord:
    return JobRecord(
        job_id=job_id, raw_id=job_id, name="ray:s:worker:u:worker:x-0",
        state=JobState.COMPLETED if end else JobState.RUNNING, exit_code=0, exit_signal=0,
        reason="", elapsed_s=int((end or START + 100) - start), cpus=1, total_cpu_s=0.0,
        nodelist="n1", partition="p", account="a", submit_time=start, start_time=start,
        end_time=end, allocated={"node": "1"},
    )  # fmt: skip


def queued(job_id: str) -> Job:
    return Job(job_id, job_id, JobState.PENDING, "Resources", "p", "", 0, None, None, 60, 1, "ray")


class Accounting:
    def __init__(self, *records: JobRecord) -> None:
        self._records = {each.job_id: each for each in records}
        self.asked: list[str] = []

    def history(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        self.asked += job_ids
        return {key: self._records[key] for key in job_ids if key in self._records}


def said(accounting: Accounting, job_ids: Sequence[str], jobs: Sequence[Job] = ()) -> Any:
    slurm = cast(SlurmClient, accounting)
    footprint = Footprint("s-1", job_ids, jobs, slurm, shared=True)
    return footprint_metadata(footprint, WINDOW, asked_for_gpus=False)


def test_only_jobs_that_overlap_the_run_s_window_are_its() -> None:
    before = record("1", START - 500, START - 10)
    across = record("2", START - 500, START + 20)
    within = record("3", START + 10, START + 40)
    running = record("4", START - 500, None)
    after = record("5", START + 200, None)
    records = (before, across, within, running, after)
    metadata = said(Accounting(*records), [each.job_id for each in records])
    assert metadata["slurm_job_ids"] == ["2", "3", "4"]
    assert metadata["slurm_node_hours"].value == pytest.approx((20 + 30 + 100) / 3600, abs=1e-4)
    assert "a shared cluster" in metadata["slurm_usage_of"].value


def test_the_ids_of_a_shared_cluster_s_jobs_are_sorted_with_those_that_are_missing() -> None:
    accounting = Accounting(record("73_1", START, None), record("70", START, None))
    metadata = said(accounting, ["73_1", "9", "70"])
    assert metadata["slurm_job_ids"] == ["9", "70", "73_1"]


def test_a_dagster_machine_whose_clock_is_behind_finds_its_jobs_nevertheless() -> None:
    slurm = cast(SlurmClient, Accounting(record("1", START + 600, START + 640)))
    footprint = Footprint("s-1", ["1"], [], slurm, shared=True, clock_offset_s=590.0)
    metadata = footprint_metadata(footprint, WINDOW, asked_for_gpus=False)
    assert metadata["slurm_node_hours"].value == pytest.approx(40 / 3600, abs=1e-4)


def test_a_warm_step_waits_neither_for_what_has_not_run_nor_long_for_records() -> None:
    accounting = Accounting(record("1", START - 500, None))
    begin = time.monotonic()
    metadata = said(accounting, ["1", "2", "3"], [queued("2")])
    assert time.monotonic() - begin < 3
    assert "2" not in accounting.asked
    assert metadata["slurm_job_ids"] == ["1", "3"]
    assert "accounting does not know job 3" in metadata["slurm_node_hours"].value
