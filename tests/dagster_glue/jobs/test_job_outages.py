"""Cut connections, lost answers, interrupted steps: on a real Ray, behind a proxy that cuts."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import ray
from packaging.version import Version

from dagster_glue.jobs import launch as launch_module
from dagster_glue.jobs.client import JobRecord, JobsApi
from dagster_glue.jobs.follow import Follower
from dagster_glue.jobs.options import RunOptions
from dagster_glue.jobs.submission import StepCall

# Prints its own log: noise of all kinds between messages, over some seconds.
SLOW = """
    import sys, time
    import ray
    from dagster_pipes import open_dagster_pipes

    @ray.remote
    def chat():
        for i in range(200):
            print("a worker says", i, "x" * 1000)

    open({marker!r}, "a").write("ran\\n")
    with open_dagster_pipes() as pipes:
        ray.init(address="auto")
        talk = chat.remote()
        for i in range(30):
            sys.stdout.write("\\r" + "#" * i); sys.stdout.flush()
            pipes.report_custom_message(i)
            time.sleep(0.1)
        ray.get(talk)
        pipes.report_custom_message("y" * 5_000_000)
"""
EXPECTED = [*range(30), "y" * 5_000_000]

BYTES = """
    import sys
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        pipes.report_custom_message("before")
        sys.stdout.buffer.write(b"no text: \\xff\\xfe\\n")
        sys.stdout.buffer.flush()
        pipes.report_custom_message("after")
"""
# Before, its dashboard had no token for the agents that hand out logs as bytes.
RAY_GIVES_BYTES = Version(ray.__version__) >= Version("2.54")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture
def in_the_middle(wait_for: Callable[..., Any], marker: Path) -> Callable[..., Any]:
    """Does something in another thread once the payload runs."""

    def start(act: Callable[[], None]) -> None:
        def wait_and_act() -> None:
            wait_for(marker.exists)
            time.sleep(0.5)
            act()

        threading.Thread(target=wait_and_act, daemon=True).start()

    return start


@pytest.mark.parametrize("is_shared", [True, False], ids=["shared files", "job log"])
def test_a_lost_answer_and_a_cut_connection_lose_no_message_and_start_no_second_job(
    request: pytest.FixtureRequest,
    materialize: Any,
    script: Callable[..., str],
    marker: Path,
    in_the_middle: Callable[..., None],
    is_shared: bool,
) -> None:
    cluster = request.getfixturevalue("cluster" if is_shared else "unshared")

    def cut_for_a_while() -> None:
        cluster.proxy.cut()
        time.sleep(3.0)
        cluster.proxy.mend()

    cluster.proxy.swallow_answer_to = b"POST /api/jobs/ "
    in_the_middle(cut_for_a_while)
    made = materialize(cluster, script(SLOW.format(marker=str(marker))))
    assert made.result.success, made.failure
    assert cluster.proxy.swallowed == 1
    assert made.messages == EXPECTED
    assert marker.read_text() == "ran\n"


@pytest.mark.parametrize("is_shared", [True, False], ids=["shared files", "job log"])
def test_output_that_is_no_text_harms_no_message_or_fails_the_step_with_the_reason(
    request: pytest.FixtureRequest, materialize: Any, script: Callable[..., str], is_shared: bool
) -> None:
    cluster = request.getfixturevalue("cluster" if is_shared else "unshared")
    made = materialize(cluster, script(BYTES))
    if is_shared or RAY_GIVES_BYTES:
        assert made.result.success, made.failure
        assert made.messages == ["before", "after"]
    else:
        assert "printed bytes that are not UTF-8" in made.failure


def test_a_retried_step_goes_on_with_the_running_job_and_gets_all_its_messages(
    cluster: Any,
    materialize: Any,
    script: Callable[..., str],
    marker: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[..., Any],
) -> None:
    follow = Follower.follow

    def die_once(self: Follower) -> Any:
        monkeypatch.setattr(Follower, "follow", follow)
        wait_for(marker.exists)
        raise RuntimeError("the step's process fails")

    monkeypatch.setattr(Follower, "follow", die_once)
    made = materialize(cluster, script(SLOW.format(marker=str(marker))), retries=1)
    assert made.result.success, made.failure
    assert made.messages == EXPECTED
    assert made.job.outcome.was_adopted
    assert marker.read_text() == "ran\n"


def test_sigterm_leaves_the_job_alone_and_the_next_run_goes_on_with_it(
    cluster: Any,
    materialize: Any,
    script: Callable[..., str],
    marker: Path,
    in_the_middle: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    runs: dict[str, Any],
) -> None:
    path = script(SLOW.format(marker=str(marker)))
    in_the_middle(lambda: signal.raise_signal(signal.SIGTERM))
    assert not materialize(cluster, path, before=runs["note"]).result.success
    (interrupted,) = runs["ids"]
    name = f"{interrupted}-trained-0-0"
    assert _job(cluster, name).status == "RUNNING"

    # As for a run that retries another from failure.
    before = StepCall(interrupted, "trained", 0, 0)
    monkeypatch.setattr(launch_module, "attempts", lambda context, call: [call, before])
    for _ in ("while it runs", "after it succeeded"):
        made = materialize(cluster, path)
        assert made.result.success, made.failure
        assert made.messages == EXPECTED
        assert made.job.outcome.submission_id == name
    assert marker.read_text() == "ran\n"


def test_a_cancelled_run_stops_its_job(cluster: Any, cancelled: Callable[..., Any]) -> None:
    name = cancelled()[0]
    assert _job(cluster, name).status == "STOPPED"


def test_a_cancel_that_does_not_reach_its_job_is_given_up_in_time_and_says_so(
    cluster: Any, cancelled: Callable[..., Any]
) -> None:
    name, said, took_s = cancelled(cluster.proxy.cut, RunOptions(stop_timeout_s=1.0))
    assert took_s < 10
    assert f"{name} on cluster test-cluster has not ended within 1 s" in said


@pytest.fixture
def cancelled(
    cluster: Any,
    materialize: Any,
    script: Callable[..., str],
    marker: Path,
    in_the_middle: Callable[..., None],
    runs: dict[str, Any],
    tmp_path: Path,
) -> Callable[..., tuple[str, str, float]]:
    """Cancels a run in the middle: its job's name, what was said, seconds until the step's end."""

    def cancel(
        meanwhile: Callable[[], None] = lambda: None, options: RunOptions | None = None
    ) -> tuple[str, str, float]:
        at = []
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:

            def act() -> None:  # as the UI does: first the status, then the signal
                instance.report_run_canceling(instance.get_run_by_id(runs["ids"][0]))
                meanwhile()
                at.append(time.monotonic())
                signal.raise_signal(signal.SIGTERM)

            in_the_middle(act)
            path = script(SLOW.format(marker=str(marker)))
            made = materialize(
                cluster, path, options=options, instance=instance, before=runs["note"]
            )
            took_s = time.monotonic() - at[0]
            assert not made.result.success
            (run_id,) = runs["ids"]
            said = "\n".join(entry.message for entry in instance.all_logs(run_id))
        return f"{run_id}-trained-0-0", said, took_s

    return cancel


@pytest.fixture
def runs() -> Iterator[dict[str, Any]]:
    ids: list[str] = []
    yield {"ids": ids, "note": lambda context: ids.append(context.run.run_id)}


def _job(cluster: Any, name: str) -> JobRecord:
    return JobsApi(cluster.open_jobs()).job(name)
