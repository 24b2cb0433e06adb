"""What is said of a head that ended before Ray ran on it: no more than is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_provider.access import NodeAccess
from slurm_provider.cluster import Cluster
from slurm_provider.errors import StartFailed
from tests.slurm_provider.fake_slurm.programs import Bench

NODE = "headlaunch-0"
UNSHARED = "compute hosts do not share that folder"


def words(bench: Bench, monkeypatch: pytest.MonkeyPatch, **job: str) -> str:
    monkeypatch.setattr("slurm_provider.pacing.queue_interval_s", lambda _: 0.0)
    cluster = Cluster({"cluster_dir": bench.store.paths.root}, "demo")
    cluster.fleet.refresh()
    bench.slurm.write_jobs([{**bench.slurm.jobs[0], **job}])
    with pytest.raises(StartFailed) as failed:
        NodeAccess(cluster, NODE).wait_ready(lambda _: None, lambda: True)
    return str(failed.value)


def test_one_that_was_cancelled_in_the_queue_had_not_started(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = words(bench, monkeypatch, state="CANCELLED", reason="PartitionDown", nodelist="")
    assert "cancelled (PartitionDown), before its job started" in said and UNSHARED not in said


def test_one_that_ran_and_left_no_log_may_not_share_the_folder(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert UNSHARED in words(bench, monkeypatch, state="FAILED", nodelist="n1")


def test_one_that_printed_nothing_is_said_to_have_printed_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(bench.store.paths.log(NODE)).touch()
    said = words(bench, monkeypatch, state="FAILED", reason="NonZeroExitCode", nodelist="n1")
    assert "it printed nothing to" in said and UNSHARED not in said


def test_one_that_printed_something_is_quoted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(bench.store.paths.log(NODE)).write_text("no such module\n")
    said = words(bench, monkeypatch, state="FAILED", nodelist="n1")
    assert said.endswith("no such module") and UNSHARED not in said
