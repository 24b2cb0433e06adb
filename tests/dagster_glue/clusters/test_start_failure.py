"""Which kind of failure kept a cluster from coming up, by Slurm's word and the head's log."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from dagster_glue.clusters.start_failure import NoCluster, kind_by_evidence
from dagster_glue.clusters.start_logs import keeping_start_logs
from dagster_glue.clusters.waiting import QueueTimeout
from dagster_glue.jobs.outcome import FailureKind
from slurm_provider.api import RayCluster
from slurm_provider.errors import ClusterError, StartFailed
from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import Job, JobState, SlurmUnavailable
from slurm_provider.transport import LocalTransport

NO_RAY = (
    "node a-0 ended: there is no 'ray' on PATH of n1 after activating the environment; check "
    "provider.environment (PATH was /env/bin)"
)


def head(state: JobState, ended: str | None = "ended") -> Node:
    job = Job("7", "7", state, "None", "p", "n1", 1.0, 2.0, 3.0, None, 1, "x")
    return Node("a-0", "t", "head", "l", 0, job=job, ended=ended)


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (JobState.CANCELLED, FailureKind.CANCELLED),
        (JobState.PREEMPTED, FailureKind.PREEMPTED),
        (JobState.NODE_FAIL, FailureKind.NODE_FAILED),
        (JobState.BOOT_FAIL, FailureKind.NODE_FAILED),
        (JobState.TIMEOUT, FailureKind.WALLTIME),
        (JobState.OUT_OF_MEMORY, FailureKind.OUT_OF_MEMORY),
    ],
)
def test_what_slurm_did_to_the_head_is_the_kind(state: JobState, kind: FailureKind) -> None:
    assert kind_by_evidence("node a-0 ended: stopped by Slurm", head(state)) is kind


@pytest.mark.parametrize(
    "words",
    [
        NO_RAY,
        "node a-0 ended: failed\n[job] activating the environment failed (provider.environment)",
        "[job] there is no python3 on PATH of n1 after activating the environment",
        "Ray did not start on the head: \nModuleNotFoundError: No module named 'ray'",
        "Ray did not start on the head: \nbash: line 1: ray: command not found",
        "[job] unpacking /e/env.tar to /tmp/rs-env-1/x failed",
    ],
)
def test_an_environment_that_does_not_do_tells_itself(words: str) -> None:
    assert kind_by_evidence(words, head(JobState.FAILED)) is FailureKind.ENVIRONMENT
    assert kind_by_evidence(words, None) is FailureKind.ENVIRONMENT


def test_what_nobody_explains_is_unknown() -> None:
    words = "Ray did not start on the head: Error: No such option"
    assert kind_by_evidence(words, head(JobState.RUNNING, None)) is FailureKind.UNKNOWN


class Cluster:
    name = "a"

    def __init__(self, folder: Path, head: Node | Exception | None) -> None:
        self.directory = str(folder / "clusters" / "a")
        self.transport = LocalTransport()
        self._head = head

    def outcome(self, node_id: str, timeout_s: float) -> Node | None:
        assert node_id == "a-0"
        if isinstance(self._head, Exception):
            raise self._head
        return self._head


def raised(folder: Path, head: Node | Exception | None, error: ClusterError) -> NoCluster:
    cluster: Any = Cluster(folder, head)
    with (
        pytest.raises(NoCluster) as caught,
        keeping_start_logs(cast(RayCluster, cluster), str(folder / "runs")),
    ):
        raise error
    return caught.value


def test_the_logs_are_kept_and_the_error_names_their_place(tmp_path: Path) -> None:
    logs = tmp_path / "clusters" / "a" / "logs"
    logs.mkdir(parents=True)
    (logs / "a-0.log").write_text("[agent] node left\n")
    error = StartFailed(f"node a-0 ended: stopped\n--- last lines of {logs}/a-0.log\n", "a-0")
    told = raised(tmp_path, head(JobState.PREEMPTED), error)
    kept = tmp_path / "runs" / "a" / "run.log"
    assert told.kind is FailureKind.PREEMPTED
    assert str(kept) in str(told)
    assert "[agent] node left" in kept.read_text()


def test_without_logs_the_error_says_what_it_said(tmp_path: Path) -> None:
    told = raised(tmp_path, None, StartFailed(NO_RAY, "a-0"))
    assert (str(told), told.kind) == (NO_RAY, FailureKind.ENVIRONMENT)


def test_a_slurm_that_does_not_answer_is_no_evidence(tmp_path: Path) -> None:
    error = StartFailed("node a-0 ended: stopped by Slurm", "a-0")
    assert raised(tmp_path, SlurmUnavailable("no answer"), error).kind is FailureKind.UNKNOWN


def test_a_queue_that_took_too_long_has_a_kind_of_its_own(tmp_path: Path) -> None:
    assert raised(tmp_path, None, QueueTimeout("late")).kind is FailureKind.QUEUE_TIMEOUT
