"""What a node's state and reason are said to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from slurm_provider.cluster_paths import ClusterPaths
from slurm_provider.fleet.edge import EdgePlace
from slurm_provider.overview import Facts, head_end, node_rows, setbacks
from slurm_provider.slurm import Job, JobState

NOW = 10_000.0


def _job(kind: str, launch: str, state: JobState = JobState.RUNNING, **values: Any) -> Job:
    defaults: dict[str, Any] = {
        "job_id": "7",
        "raw_id": "7",
        "reason": "None",
        "partition": "compute",
        "nodelist": "n1",
        "submit_time": 1.0,
        "start_time": 2.0,
        "end_time": 3602.0,
        "time_limit_s": 3600,
        "cpus": 1,
        "name": f"ray:demo:{kind}:u1:{kind}:{launch}",
    }
    return Job(state=state, **{**defaults, **values})


def _facts(
    *jobs: Job,
    reports: Mapping[str, Mapping[str, Any]] | None = None,
    autoscaler: Mapping[str, Any] | None = None,
    edge: EdgePlace | None = None,
) -> Facts:
    return Facts(ClusterPaths("/c"), "u1", jobs, reports or {}, autoscaler or {}, edge, NOW)


@pytest.mark.parametrize(
    ("state", "report", "shown", "reason"),
    [
        (JobState.RUNNING, {}, "running", "its job script activates the environment"),
        (JobState.RUNNING, {"state": "starting"}, "running", "set-up, then Ray's start"),
        (JobState.RUNNING, {"state": "joined"}, "joined", ""),
        (JobState.RUNNING, {"state": "draining", "reason": "its time limit is near"}, "draining",
         "its time limit is near: it takes no new work"),
        (JobState.RUNNING, {"state": "ended", "reason": "stopped"}, "ending", "stopped"),
        (JobState.RUNNING, {"state": "failed", "reason": "no Ray"}, "running", "no Ray"),
        (JobState.COMPLETING, {"state": "joined"}, "ending", ""),
        (JobState.CONFIGURING, {}, "running", "Slurm prepares the host"),
        (JobState.SUSPENDED, {"state": "joined"}, "running", "suspended by an administrator"),
        (JobState.STOPPED, {"state": "joined"}, "running", "Slurm says stopped"),
    ],
)  # fmt: skip
def test_a_nodes_state_is_what_slurm_and_its_agent_say_together(
    state: JobState, report: dict[str, Any], shown: str, reason: str
) -> None:
    (row,) = node_rows(_facts(_job("worker", "l1", state), reports={"l1-0": report}))
    assert (row.state, row.reason[: len(reason)]) == (shown, reason)
    assert row.reason or not reason
    assert "looked at it yet" not in row.reason  # squeue says None as the reason of all of these


def test_a_queued_node_has_a_reason_in_words_an_expected_start_and_no_end() -> None:
    job = _job("worker", "l1", JobState.PENDING, reason="Priority", start_time=5.0, nodelist="")
    (row,) = node_rows(_facts(job))
    assert row.state == "queued"
    assert row.reason == "jobs with higher priority are ahead in the queue"
    assert row.explained == f"waiting its turn: {row.reason}"
    assert (row.expected_start, row.end_time, row.host) == (5.0, None, None)


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        ("Resources", "waiting", "waiting its turn: "),
        ("QOSGrpCpuLimit", "limited", "limited by a quota: "),
        ("JobHeldAdmin", "held", "held: "),
        ("PartitionTimeLimit", "never", "can never run: "),
        ("BrandNew", "unknown", "Slurm says: "),
    ],
)
def test_queued_nodes_are_told_apart_by_what_they_wait_for(
    reason: str, kind: str, words: str
) -> None:
    job = _job("worker", "l1", JobState.PENDING, reason=reason, nodelist="")
    (row,) = node_rows(_facts(job))
    assert row.reason_kind == kind
    assert row.explained.startswith(words)


def test_a_running_node_waits_for_nothing() -> None:
    (row,) = node_rows(_facts(_job("worker", "l1"), reports={"l1-0": {"state": "starting"}}))
    assert row.reason_kind is None and row.explained == row.reason


def test_a_job_without_a_limit_has_no_end() -> None:
    (row,) = node_rows(_facts(_job("worker", "l1", time_limit_s=None)))
    assert row.end_time is None


def test_the_head_comes_first_and_other_clusters_and_ended_nodes_are_left_out() -> None:
    rows = node_rows(
        _facts(
            _job("worker", "a1"),
            _job("head", "z1"),
            _job("worker", "b1", JobState.COMPLETED),
            _job("worker", "c1", name="ray:demo:cpu:other:worker:c1"),
            _job("worker", "d1", name="somebody's job"),
        )
    )
    assert [row.node_id for row in rows] == ["z1-0", "a1-0"]


def test_tasks_of_an_array_are_in_the_order_of_numbers() -> None:
    jobs = [_job("worker", "a1", job_id=f"9_{index}") for index in (10, 2, 1)]
    assert [row.node_id for row in node_rows(_facts(*jobs))] == ["a1-1", "a1-2", "a1-10"]


HELD = {"held": [{"node_id": "h1-0", "node_type": "cpu", "reason": "quota"}]}


def test_held_nodes_are_shown_while_a_head_could_submit_them() -> None:
    rows = node_rows(_facts(_job("head", "z1"), autoscaler=HELD))
    assert [(row.state, row.reason) for row in rows] == [
        ("running", "its job script activates the environment"),
        ("held", "quota"),
    ]
    assert rows[1].log_path is None  # what was not submitted prints nothing
    assert node_rows(_facts(autoscaler=HELD)) == []


@pytest.mark.parametrize(
    ("paused", "wait_until", "words"),
    [
        (False, NOW + 8, "its node type failed 2 times in a row, next try in 8 s"),
        (False, NOW - 1, "its node type failed 2 times in a row, next try is due"),
        (True, 0.0, "its node type is paused"),
    ],
)
def test_seconds_to_the_next_try_count_from_now(
    paused: bool, wait_until: float, words: str
) -> None:
    state = {"failures": 2, "paused": paused, "wait_until": wait_until, "cause": "x", "where": []}
    facts = _facts(_job("head", "z1"), autoscaler={**HELD, "types": {"cpu": state}})
    assert node_rows(facts)[1].reason == words


def test_the_head_tells_that_the_clusters_folder_is_full() -> None:
    jobs = _job("head", "z1"), _job("worker", "a1")
    facts = replace(_facts(*jobs), write_problem="No space left on device")
    head, worker = node_rows(facts)
    assert "/c cannot be written (No space left on device)" in head.reason
    assert "cannot be written" not in worker.reason


def test_a_failing_type_comes_with_the_end_of_its_last_log() -> None:
    state = {
        "failures": 2,
        "paused": True,
        "wait_until": 0.0,
        "cause": "exit code 7",
        "where": ["/c/logs/a-0.log", "/c/logs/b-0.log"],
    }
    (found,) = setbacks(_facts(autoscaler={"types": {"cpu": state}}), lambda i, n: f"{i} {n}")
    assert (found.node_type, found.paused, found.cause) == ("cpu", True, "exit code 7")
    assert (found.log_path, found.log_tail) == ("/c/logs/b-0.log", "b-0 5")


def test_a_head_on_the_edge_node_has_no_job() -> None:
    facts = _facts(
        edge=EdgePlace("e1-0", "head", 42, "edge"), reports={"e1-0": {"state": "joined"}}
    )
    (row,) = node_rows(facts)
    assert (row.kind, row.state, row.host, row.job_id) == ("head", "joined", "edge", None)


def test_the_end_of_the_last_head_is_told_as_long_as_slurm_knows_it() -> None:
    old = _job("head", "a1", JobState.CANCELLED, job_id="5", end_time=50.0)
    last = _job("head", "b1", JobState.TIMEOUT, job_id="6", end_time=60.0, reason="TimeLimit")
    assert head_end(_facts(last, old)) == "job 6: timeout (TimeLimit)"
    assert head_end(_facts()) is None
