"""What is told of workers that wait, and how often."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from dagster_glue.clusters import worker_news
from dagster_glue.clusters.base import ClusterAccess
from dagster_glue.clusters.worker_news import WorkerNews, telling_of_workers
from slurm_provider.slurm import SlurmUnavailable
from slurm_provider.worker_waits import WorkerWait
from tests.sandbox_fixture import wait_for

QUEUED = WorkerWait("gpu", "wait in Slurm's queue: its turn", 2, expected_start=1000.0)
LATER = WorkerWait("gpu", "wait in Slurm's queue: its turn", 3, expected_start=2000.0)
HELD = WorkerWait("cpu", "are not submitted yet: a limit", 1)
PAUSED = WorkerWait("cpu", "are not started any more: no ray", fails=True, stays=True)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def said(news: WorkerNews, *waits: WorkerWait) -> list[str]:
    return [words for _, words in news.of(waits)]


def test_a_wait_is_told_when_it_is_new_and_its_expected_start_now_and_then() -> None:
    clock = Clock()
    news = WorkerNews("c", clock)
    assert said(news, QUEUED) == [f"Cluster c: {QUEUED.words}"]
    assert said(news, LATER) == []
    clock.now = 700.0
    assert said(news, LATER) == [f"Cluster c: {LATER.words}"]
    assert said(news, LATER, HELD) == [f"Cluster c: {HELD.words}"]


def test_the_end_of_all_waits_is_told_once() -> None:
    news = WorkerNews("c", Clock())
    assert said(news) == []
    said(news, QUEUED, HELD)
    assert said(news, HELD) == []
    assert said(news) == ["No workers of cluster c wait any more"]
    assert said(news) == []
    assert said(news, QUEUED) == [f"Cluster c: {QUEUED.words}"]


def test_what_does_not_pass_by_itself_comes_with_the_next_step() -> None:
    (words,) = said(WorkerNews("c", Clock()), PAUSED)
    assert "no ray" in words
    assert "compute.cleanup_cluster('c')" in words


class Cluster:
    cluster_id = "c"
    directory: str | None = "/c"

    def __init__(self, *answers: list[WorkerWait] | Exception) -> None:
        self.answers = list(answers)
        self.looks: list[str] = []

    def worker_waits(self) -> list[WorkerWait]:
        self.looks.append(threading.current_thread().name)
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_news, "FIRST_LOOK_S", 0.0)
    monkeypatch.setattr(worker_news, "LOOK_S", 0.01)


def test_they_are_looked_at_beside_the_job_and_silence_tells_nothing() -> None:
    cluster = Cluster([QUEUED], SlurmUnavailable("no answer"), [QUEUED], [PAUSED])
    infos: list[Any] = []
    warnings: list[Any] = []
    access = cast(ClusterAccess, cluster)
    with telling_of_workers(access, infos.append, warnings.append):
        wait_for(lambda: len(infos) == 2, 10)
    assert QUEUED.words in infos[0]
    assert "wait any more" in infos[1]
    assert [PAUSED.what in words for words in warnings] == [True]
    assert threading.current_thread().name not in cluster.looks


def test_a_cluster_without_slurm_is_not_looked_at() -> None:
    cluster = Cluster([QUEUED])
    cluster.directory = None
    before = threading.active_count()
    with telling_of_workers(cast(ClusterAccess, cluster), print, print):
        assert threading.active_count() == before
    assert cluster.looks == []
