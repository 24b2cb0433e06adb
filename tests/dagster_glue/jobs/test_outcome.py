from __future__ import annotations

from typing import Any

import pytest

from dagster_glue.jobs.client import JobRecord
from dagster_glue.jobs.outcome import Evidence, FailureKind, PipesReport, judge, lacks_a_cause
from dagster_glue.jobs.source import Ended
from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import Job, JobState

CLOSED = PipesReport(has_opened=True, has_closed=True)


def node(kind: str, state: JobState, *, end_time: float = 200.0) -> Node:
    job = Job("7", "7", state, "None", "p", "n1", 1.0, 2.0, end_time, None, 1, "x")
    return Node(f"{kind}-1", "t", kind, "l", 0, job=job, ended=state.name.lower())


def killed_for_memory(at: float) -> Node:
    """A worker that runs on."""
    lives = node("worker", JobState.RUNNING)
    lives.ended, lives.memory_killed_at = None, at
    return lives


def failed(**values: Any) -> JobRecord:
    return JobRecord("x", "FAILED", started=100.0, **values)


def ended(code: int, signal: int | None = None, oom_kills: int = 0) -> Ended:
    return Ended(code, signal, oom_kills, 1.0)


def raised(name: str, message: str) -> PipesReport:
    exception = {"name": name, "message": f"{name}: {message}", "stack": ['  File "a.py"\n']}
    return PipesReport(True, True, exception=exception)


CASES = [
    ("a plain exception", Evidence(failed(exit_code=1), ended(1), raised("ValueError", "no")),
     FailureKind.PAYLOAD, "ValueError: no"),
    ("the kernel's kill", Evidence(failed(exit_code=137), ended(137, 9, 1), CLOSED),
     FailureKind.OUT_OF_MEMORY, "the kernel killed 1"),
    ("another process's kill in the same job",
     Evidence(failed(exit_code=1), ended(1, None, 1), raised("ValueError", "no")),
     FailureKind.PAYLOAD, "ValueError: no"),
    ("Ray's memory monitor",
     Evidence(failed(exit_code=1), ended(1), raised("ray.exceptions.OutOfMemoryError", "node")),
     FailureKind.OUT_OF_MEMORY, "ran out of memory"),
    ("a preempted worker",
     Evidence(failed(exit_code=1), ended(1), raised("ray.exceptions.NodeDiedError", "gone"),
              nodes=[node("worker", JobState.PREEMPTED)]),
     FailureKind.PREEMPTED, "Slurm: node worker-1 (job 7) preempted"),
    ("a worker's process that the kernel killed for memory",
     Evidence(failed(exit_code=1), ended(1), raised("ray.exceptions.WorkerCrashedError", "died"),
              nodes=[killed_for_memory(150.0)]),
     FailureKind.OUT_OF_MEMORY, "for memory on node worker-1 (job 7)"),
    ("a kill for memory before the job began",
     Evidence(failed(exit_code=1), ended(1), raised("ray.exceptions.WorkerCrashedError", "died"),
              nodes=[killed_for_memory(50.0)]),
     FailureKind.PAYLOAD, "WorkerCrashedError"),
    ("a mistake, and a kill for memory that Ray made good",
     Evidence(failed(exit_code=1), ended(1), raised("ValueError", "no"),
              nodes=[killed_for_memory(150.0)]),
     FailureKind.PAYLOAD, "ValueError: no"),
    ("a worker that Slurm ended for memory",
     Evidence(failed(exit_code=1), ended(1), raised("ray.exceptions.NodeDiedError", "gone"),
              nodes=[node("worker", JobState.OUT_OF_MEMORY)]),
     FailureKind.OUT_OF_MEMORY, "Slurm: node worker-1 (job 7) out_of_memory"),
    ("a head that Slurm ended for memory",
     Evidence(None, None, CLOSED, lost="gone", nodes=[node("head", JobState.OUT_OF_MEMORY)]),
     FailureKind.OUT_OF_MEMORY, "gone"),
    ("a worker lost before the job began",
     Evidence(failed(exit_code=1), ended(1), raised("ray.exceptions.NodeDiedError", "gone"),
              nodes=[node("worker", JobState.PREEMPTED, end_time=50.0)]),
     FailureKind.PAYLOAD, "NodeDiedError"),
    ("a missing package", Evidence(failed(exit_code=1), ended(1), PipesReport(False, False),
                                   tail="ModuleNotFoundError: No module named 'torch'"),
     FailureKind.ENVIRONMENT, "No module named 'torch'"),
    ("a missing program", Evidence(failed(exit_code=127), None, PipesReport(False, False)),
     FailureKind.ENVIRONMENT, "exit code 127"),
    ("runtime_env", Evidence(failed(error_type="RUNTIME_ENV_SETUP_FAILURE", message="pip failed"),
                             None, PipesReport(False, False)),
     FailureKind.ENVIRONMENT, "pip failed"),
    ("no room for the driver",
     Evidence(failed(error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT", message="900 seconds"),
              None, PipesReport(False, False)),
     FailureKind.REFUSED, "900 seconds"),
    ("the head's time limit",
     Evidence(None, None, CLOSED, lost="the cluster's head has ended",
              nodes=[node("head", JobState.TIMEOUT)]),
     FailureKind.WALLTIME, "the cluster's head has ended"),
    ("the head's host", Evidence(None, None, CLOSED, lost="gone",
                                 nodes=[node("head", JobState.NODE_FAIL)]),
     FailureKind.NODE_FAILED, "gone"),
    ("scancel", Evidence(None, None, CLOSED, lost="gone",
                         nodes=[node("head", JobState.CANCELLED)]),
     FailureKind.CANCELLED, "gone"),
    ("scancel, whose signal the payload told of",
     Evidence(None, ended(143, 15), PipesReport(True, False),
              nodes=[node("head", JobState.CANCELLED)]),
     FailureKind.CANCELLED, "Slurm: node head-1 (job 7) cancelled"),
    ("the head's time limit, by its signal",
     Evidence(None, ended(143, 15), PipesReport(True, False),
              nodes=[node("head", JobState.TIMEOUT)]),
     FailureKind.WALLTIME, "time limit"),
    ("the head's time limit, at whose signal the payload ended well",
     Evidence(None, Ended(0, None, 0, 1.0, was_stopped=True), CLOSED,
              nodes=[node("head", JobState.TIMEOUT)]),
     FailureKind.WALLTIME, "exit code 0, after it was asked to end"),
    ("a head that left",
     Evidence(None, None, CLOSED, lost="gone", nodes=[node("head", JobState.COMPLETED)]),
     FailureKind.CLUSTER_ENDED, "gone"),
    ("a cluster that is no more",
     Evidence(None, None, CLOSED, lost="the head has left Slurm", is_cluster_gone=True),
     FailureKind.CLUSTER_ENDED, "has left Slurm"),
    ("a cluster taken down, whose signal the payload told of",
     Evidence(None, ended(143, 15), PipesReport(True, False), is_cluster_gone=True),
     FailureKind.CLUSTER_ENDED, "taken down under the payload"),
    ("a Ray that was started anew", Evidence(None, None, CLOSED, lost="no longer knows the job"),
     FailureKind.NODE_FAILED, "no longer knows"),
    ("a signal of the payload's own, and a worker that Ray gave back",
     Evidence(failed(exit_code=143), ended(143, 15), PipesReport(True, False),
              nodes=[node("worker", JobState.CANCELLED)]),
     FailureKind.PAYLOAD, "exit code 143"),
    ("ray job stop", Evidence(JobRecord("x", "STOPPED"), None, CLOSED),
     FailureKind.CANCELLED, "was stopped"),
    ("never opened", Evidence(JobRecord("x", "SUCCEEDED"), ended(0), PipesReport(False, False)),
     FailureKind.PAYLOAD, "never opened Dagster Pipes"),
    ("never closed", Evidence(JobRecord("x", "SUCCEEDED"), ended(0), PipesReport(True, False)),
     FailureKind.PAYLOAD, "did not close"),
    ("garbled", Evidence(JobRecord("x", "SUCCEEDED"), ended(0),
                         PipesReport(True, True, problems=["{: bad"])),
     FailureKind.PAYLOAD, "could be read"),
]  # fmt: skip


@pytest.mark.parametrize(("evidence", "kind", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])  # fmt: skip  # noqa: E501
def test_the_evidence_tells_the_kind(evidence: Evidence, kind: FailureKind, words: str) -> None:
    _, found, message = judge(evidence, strict=True)
    assert found is kind
    assert words in message


@pytest.mark.parametrize(
    ("exception", "nodes", "lacks"),
    [
        ("ray.exceptions.WorkerCrashedError", [], True),
        ("ray.exceptions.WorkerCrashedError", [killed_for_memory(50.0)], True),
        ("ray.exceptions.WorkerCrashedError", [killed_for_memory(150.0)], False),
        ("ray.exceptions.NodeDiedError", [node("worker", JobState.PREEMPTED)], False),
        ("ValueError", [], False),
    ],
)
def test_a_lost_process_is_asked_for_once_more_where_nothing_tells_why(
    exception: str, nodes: list[Node], lacks: bool
) -> None:
    evidence = Evidence(failed(exit_code=1), ended(1), raised(exception, ""), nodes=nodes)
    assert lacks_a_cause(evidence) is lacks


def test_a_success_is_believed_from_ray_or_from_the_program_around_the_payload() -> None:
    by_ray = Evidence(JobRecord("x", "SUCCEEDED"), None, CLOSED)
    by_file = Evidence(None, ended(0), CLOSED)
    of_one_gone = Evidence(None, ended(0), CLOSED, is_cluster_gone=True)
    assert judge(of_one_gone, strict=True)[:2] == ("succeeded", None)
    assert judge(by_ray, strict=True)[:2] == ("succeeded", None)
    assert judge(by_file, strict=True)[:2] == ("succeeded", None)


def test_without_strict_a_silent_success_is_one() -> None:
    silent = Evidence(JobRecord("x", "SUCCEEDED"), ended(0), PipesReport(False, False))
    assert judge(silent, strict=False)[1] is None


def test_a_traceback_shows_its_causes() -> None:
    cause = {"name": "KeyError", "message": "KeyError: 'k'", "stack": ["  File b\n"], "cause": None}
    exception = {"name": "E", "message": "E: outer", "stack": ["  File a\n"], "cause": cause}
    evidence = Evidence(failed(exit_code=1), ended(1), PipesReport(True, True, exception=exception))
    message = judge(evidence, strict=True)[2]
    assert (
        message.index("KeyError: 'k'") < message.index("direct cause") < message.index("E: outer")
    )
