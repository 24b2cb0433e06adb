"""Decisions while following, on a clock that only these tests move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dagster_glue.clusters.base import ClusterGone, JobsConnection
from dagster_glue.jobs import link as link_module
from dagster_glue.jobs.client import JobRecord, JobUnknown, NoAnswer
from dagster_glue.jobs.follow import End, Follower
from dagster_glue.jobs.link import JobsLink
from dagster_glue.jobs.source import Drained, Ended
from dagster_glue.jobs.tail import FolderMissing
from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import Job, JobState
from slurm_provider.transport import TransportError


class World:
    """A cluster, its job API and its run folder, as functions of the time."""

    cluster_id = "c"
    directory = None
    needs_ray = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.status: Callable[[float], JobRecord] = lambda now: JobRecord("x", "RUNNING")
        self.heads: Callable[[float], list[Node]] = lambda now: []
        self.ended_at: float | None = None
        self.was_stopped = False
        self.files_fail: Callable[[float], bool] = lambda now: False
        self.cancelled_at = 1e9
        self.drains = 0
        self.drain_moves: Callable[[float], bool] = lambda now: False
        self.missing = ""
        self.failure: TransportError = TransportError("cut", transient=True)
        monkeypatch.setattr(link_module, "JobsApi", lambda connection: self)

    # the cluster
    def open_jobs(self) -> JobsConnection:
        return JobsConnection("http://x", {}, lambda: None, lambda: True)

    def transport(self) -> Any: ...
    def work_dir(self) -> str | None: ...

    def evidence(self) -> list[Node]:
        return self.heads(self.now)

    # the job API
    def job(self, submission_id: str) -> JobRecord:
        return self.status(self.now)

    # the source
    @property
    def ended(self) -> Ended | None:
        is_over = self.ended_at is not None and self.now >= self.ended_at
        is_over = is_over and not self.files_fail(self.now)
        return Ended(0, None, 0, 1.0, was_stopped=self.was_stopped) if is_over else None

    def look(self, wait_s: float = 0.0, pause_s: float = 0.1) -> bool:
        self.now += wait_s
        if self.files_fail(self.now):
            raise self.failure
        return False

    def drain(self, record: JobRecord | None) -> Drained:
        self.look()
        self.drains += 1
        if self.drain_moves(self.now):
            return Drained.SOME
        return Drained.ALL if self.ended is not None else Drained.NOTHING

    def finish(self, missing: str = "") -> None:
        self.missing = missing

    def follow(self) -> End:
        def sleep(seconds: float) -> None:
            self.now += seconds
            assert self.now < 36_000, "it does not end"

        def check() -> None:
            if self.now >= self.cancelled_at:
                raise RuntimeError("cancelled")

        link = JobsLink(self, self.said.append, clock=lambda: self.now)
        follower = Follower(
            self, link, "x", self, check=check, say=self.said.append,
            clock=lambda: self.now, sleep=sleep,
        )  # fmt: skip
        return follower.follow()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def silent(now: float) -> JobRecord:
    raise NoAnswer("reset")


def head(state: JobState, ended: str | None) -> Node:
    job = Job("7", "7", state, "None", "p", "n1", 1.0, 2.0, 3.0, None, 1, "x")
    return Node("h-1", "t", "head", "l", 0, job=job, ended=ended)


def test_the_word_of_a_payload_that_ended_well_comes_before_ray_s(world: World) -> None:
    world.ended_at = 5.0
    assert world.follow() == End(JobRecord("x", "RUNNING"))
    assert world.now < 5.0 + 2.5


def test_ray_tells_what_became_of_a_payload_that_was_asked_to_end(world: World) -> None:
    world.ended_at, world.was_stopped = 5.0, True
    world.status = lambda now: JobRecord("x", "STOPPED" if now > 9.0 else "RUNNING")
    assert world.follow() == End(JobRecord("x", "STOPPED"))


def test_an_outage_of_an_hour_is_sat_out(world: World) -> None:
    def status(now: float) -> JobRecord:
        return silent(now) if now < 3600 else JobRecord("x", "SUCCEEDED")

    world.status = status
    world.files_fail = lambda now: now < 3600
    world.heads = lambda now: [head(JobState.RUNNING, None)]
    world.ended_at = 3500.0
    end = world.follow()
    assert end.record is not None and end.record.status == "SUCCEEDED"
    assert world.drains > 0
    assert any("answers again after" in words for words in world.said)
    assert len(world.said) < 70


def test_silence_of_ray_and_slurm_proves_nothing(world: World) -> None:
    world.status = silent

    def no_slurm(now: float) -> list[Node]:
        raise TransportError("edge node down", transient=True)

    world.heads = no_slurm
    world.cancelled_at = 30_000.0
    with pytest.raises(RuntimeError, match="cancelled"):
        world.follow()


def test_a_head_that_slurm_says_is_gone_ends_it_with_slurms_word(world: World) -> None:
    world.status = silent
    world.heads = lambda now: [head(JobState.TIMEOUT, "timeout")] if now > 100 else []
    end = world.follow()
    assert end.record is None
    assert "h-1 (job 7): timeout" in end.lost
    assert end.nodes


def test_a_payload_that_wrote_its_end_needs_no_ray_any_more(world: World) -> None:
    world.status = silent
    world.ended_at = 50.0
    assert world.follow() == End(None)
    assert world.now < 120


def test_a_head_that_was_started_anew_does_not_know_the_job(world: World) -> None:
    def unknown(now: float) -> JobRecord:
        raise JobUnknown("x")

    world.status = unknown
    end = world.follow()
    assert "no longer knows the job" in end.lost


def test_one_wrong_answer_is_not_believed(world: World) -> None:
    answers = iter([JobUnknown("x"), JobUnknown("x")])

    def status(now: float) -> JobRecord:
        for error in answers:
            raise error
        return JobRecord("x", "SUCCEEDED" if now > 20 else "RUNNING")

    world.status = status
    world.ended_at = 20.0
    assert world.follow().record is not None


def test_a_cluster_that_is_gone_ends_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> JobsConnection:
        raise ClusterGone("the local Ray runtime has ended")

    monkeypatch.setattr(world, "open_jobs", gone)
    end = world.follow()
    assert (end.lost, end.is_cluster_gone) == ("the local Ray runtime has ended", True)


def test_files_are_waited_for_longer_after_a_success_than_after_a_failure(world: World) -> None:
    world.status = lambda now: JobRecord("x", "SUCCEEDED")
    world.follow()
    after_success, world.now = world.now, 0.0
    world.status = lambda now: JobRecord("x", "FAILED")
    world.follow()
    assert world.now < 10 < 60 < after_success


def test_a_run_folder_that_was_removed_is_not_waited_for_for_ever(world: World) -> None:
    world.status = lambda now: JobRecord("x", "SUCCEEDED")
    world.files_fail = lambda now: True
    world.failure = FolderMissing("/runs/x cannot be read", transient=True)
    assert world.follow() == End(JobRecord("x", "SUCCEEDED"))
    assert world.missing == "/runs/x cannot be read"
    assert 300 < world.now < 400


def test_a_file_system_that_is_away_is_waited_for_after_a_success(world: World) -> None:
    world.status = lambda now: JobRecord("x", "SUCCEEDED")
    world.files_fail = lambda now: now < 20_000
    world.ended_at = 5.0
    world.follow()
    assert world.now >= 20_000
    assert world.missing == ""


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_what_comes_slowly_after_the_end_is_read_to_its_end(world: World, status: str) -> None:
    world.status = lambda now: JobRecord("x", status)
    world.drain_moves = lambda now: now < 400
    world.ended_at = 400.0
    world.follow()
    assert world.drains > 0
    assert world.now >= 400
    assert world.ended is not None


def test_what_stops_coming_after_the_end_is_waited_for_a_while_from_then_on(world: World) -> None:
    world.status = lambda now: JobRecord("x", "FAILED")
    world.drain_moves = lambda now: now < 400
    world.follow()
    assert 400 < world.now < 410
