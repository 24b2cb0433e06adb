"""What is said of workers that do not start."""

from __future__ import annotations

import time
from typing import Any

from slurm_provider.overview import NodeRow, Setback
from slurm_provider.worker_waits import WorkerWait, worker_waits

NOON = time.mktime((2026, 11, 23, 12, 0, 0, 0, 0, -1))


def row(node_id: str, state: str, reason: str = "", **values: Any) -> NodeRow:
    defaults: dict[str, Any] = {
        "node_type": "gpu", "kind": "worker", "job_id": None, "host": None,
        "expected_start": None, "submit_time": None, "start_time": None, "joined_time": None,
        "end_time": None, "log_path": "",
    }  # fmt: skip
    return NodeRow(node_id=node_id, state=state, reason=reason, **{**defaults, **values})


def setback(paused: bool, failures: int = 5, log: str | None = "/c/logs/a-0.log") -> Setback:
    return Setback("gpu", paused, failures, "exit code 3", log, "no module torch" if log else "")


def words(*rows: NodeRow, setbacks: tuple[Setback, ...] = ()) -> list[str]:
    return [wait.words for wait in worker_waits(rows, setbacks)]


def test_workers_of_a_type_that_are_queued_are_one_line_with_the_start_of_the_first() -> None:
    first = row("a-1", "queued", "it is first in the queue", expected_start=NOON)
    second = row("a-0", "queued", "jobs with higher priority are ahead", expected_start=NOON + 60)
    assert words(second, first) == [
        "Workers of type 'gpu' (2 of them) wait in Slurm's queue: it is first in the queue "
        "(expected start 23 Nov 12:00)"
    ]


def test_nothing_is_said_of_workers_that_run_and_of_the_head() -> None:
    rows = [row("a-0", "joined"), row("a-1", "running"), row("a-2", "ending")]
    assert words(*rows, row("h-0", "queued", kind="head")) == []


def test_a_job_that_can_never_run_is_told_apart() -> None:
    (said,) = words(row("a-0", "queued", "ask for less", reason_kind="never"))
    assert said == "Workers of type 'gpu' wait in Slurm's queue: can never run: ask for less"


def test_workers_that_slurm_does_not_take_now_say_why() -> None:
    assert words(row("a-0", "held", "Slurm takes no more jobs for now")) == [
        "Workers of type 'gpu' are not submitted yet: Slurm takes no more jobs for now"
    ]


def test_a_type_that_fails_is_told_once_with_its_cause_and_log() -> None:
    (wait,) = worker_waits([row("a-0", "held", "next try in 17 s")], [setback(False, 2)])
    assert wait.words == (
        "Workers of type 'gpu' failed 2 times in a row and are tried again: exit code 3\n"
        "  /c/logs/a-0.log\n  | no module torch"
    )
    assert (wait.fails, wait.stays) == (True, False)


def test_a_type_that_is_paused_does_not_come_by_itself() -> None:
    (wait,) = worker_waits([row("a-0", "held", "its node type is paused")], [setback(True)])
    assert "are not started any more: exit code 3" in wait.words
    assert wait.stays


def test_a_type_that_slurm_refused_has_not_failed() -> None:
    (wait,) = worker_waits([], [setback(True, 0, None)])
    assert wait.words == "Workers of type 'gpu' are not started any more: exit code 3"


def test_the_words_for_what_they_wait_for_do_not_change_with_the_clock() -> None:
    def what(start: float) -> str:
        (wait,) = worker_waits([row("a-0", "queued", "its turn", expected_start=start)], [])
        return wait.what

    assert what(NOON) == what(NOON + 600)


def test_one_line_names_no_number() -> None:
    assert WorkerWait("cpu", "wait", 1).words == "Workers of type 'cpu' wait"
