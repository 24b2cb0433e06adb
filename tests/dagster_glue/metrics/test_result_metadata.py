"""What a result says where Slurm's accounting, or a node, cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from dagster_glue.clusters.base import ClusterAccess
from dagster_glue.metadata import Footprint, footprint_metadata, ray_logs_metadata
from dagster_glue.metrics import Window
from slurm_provider.slurm import AccountingUnavailable, Job, JobRecord, JobState, SlurmClient
from slurm_provider.transport import LocalTransport, Transport, TransportError

START = 10_000.0
WINDOW = Window(START, START + 100)
UNKNOWN = (
    "slurm_cpu_efficiency_percent", "slurm_peak_memory_mib", "slurm_peak_memory_all_nodes_mib",
    "slurm_gpus", "slurm_gpu_hours", "slurm_gpu_utilization_percent",
    "slurm_gpu_peak_utilization_percent", "slurm_gpu_peak_memory_mib",
)  # fmt: skip


class NoAccounting:
    def history(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        raise AccountingUnavailable("this site keeps no accounting records")


def job(job_id: str, kind: str, *, wait_s: float, run_s: float) -> Job:
    submitted = START + 10
    started = submitted + wait_s
    return Job(
        job_id, job_id, JobState.COMPLETED, "None", "p", "n1", submitted, started,
        started + run_s, 600, 1, f"ray:c:{kind}:u:{kind}:l{job_id}",
    )  # fmt: skip


def said(
    jobs: Sequence[Job], job_ids: Sequence[str], *, ran_elsewhere: bool = False
) -> dict[str, Any]:
    footprint = Footprint("c", job_ids, jobs, cast(SlurmClient, NoAccounting()))
    metadata = footprint_metadata(
        footprint, WINDOW, asked_for_gpus=True, ran_elsewhere=ran_elsewhere
    )
    return {name: value.value for name, value in metadata.items() if hasattr(value, "value")}


def test_without_accounting_the_queue_s_times_are_told_and_the_rest_is_unknown() -> None:
    head, worker = job("1", "head", wait_s=2, run_s=60), job("2", "worker", wait_s=20, run_s=30)
    metadata = said([head, worker], ["1", "2"])
    for name in UNKNOWN:
        assert str(metadata[name]).startswith("unknown: this site keeps no accounting"), name
    assert metadata["slurm_elapsed_s"] == 60.0
    assert metadata["slurm_queue_wait_s"] == 20.0
    assert metadata["slurm_node_hours"] == pytest.approx(90 / 3600, abs=1e-4)
    assert metadata["slurm_job_states"] == {"1": "COMPLETED", "2": "COMPLETED"}


def test_the_usage_of_a_cluster_on_which_the_payload_did_not_run_says_so() -> None:
    jobs = [job("1", "head", wait_s=2, run_s=60)]
    assert "slurm_usage_of" not in said(jobs, ["1"])
    assert "on which nothing ran" in said(jobs, ["1"], ran_elsewhere=True)["slurm_usage_of"]


def test_a_job_that_nobody_knows_leaves_no_figure_that_could_be_wrong() -> None:
    metadata = said([job("1", "head", wait_s=2, run_s=60)], ["1", "2"])
    assert metadata["slurm_node_hours"].startswith("at least 0.0167: ")
    assert metadata["slurm_job_states"]["2"] == "unknown"
    metadata = said([], ["1"])
    figures = {key: value for key, value in metadata.items() if key != "slurm_job_states"}
    exact = {key for key, value in figures.items() if not isinstance(value, str)}
    assert exact == set()


class Cluster:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def transport(self) -> Transport:
        return self._transport


class Cut(LocalTransport):
    def list_dir(self, path: str) -> list[str]:
        raise TransportError("cut", transient=True)


def logs(
    path: Path | None, *, goes_on: bool = False, transport: Transport | None = None
) -> dict[str, Any]:
    cluster = cast(ClusterAccess, Cluster(transport or LocalTransport()))
    metadata = ray_logs_metadata(cluster, None if path is None else str(path), goes_on=goes_on)
    return {name: value.value for name, value in metadata.items()}


def test_ray_s_logs_are_named_where_they_are_or_are_to_come(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert logs(None) == {}
    assert logs(run / "ray", goes_on=True) == {"ray_logs": str(run / "ray")}
    assert logs(run / "ray", transport=Cut()) == {"ray_logs": str(run / "ray")}
    (run / "ray").mkdir()
    assert logs(run / "ray") == {"ray_logs": str(run / "ray")}


def test_of_a_head_that_died_no_logs_are_promised(tmp_path: Path) -> None:
    assert logs(tmp_path / "ray")["ray_logs"].startswith("none: no node was left")
    assert logs(tmp_path / "no run" / "ray")["ray_logs"].startswith("none: ")
