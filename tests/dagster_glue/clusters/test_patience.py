from __future__ import annotations

import time

import pytest

from dagster_glue.clusters import waiting
from dagster_glue.clusters.waiting import Patience, QueueTimeout, QueueWait, reached
from slurm_provider.errors import ClusterError
from slurm_provider.transport import (
    AuthenticationFailed,
    ConnectFailed,
    LocalTransport,
    TransportError,
)


class FarAway(LocalTransport):
    """Fails so often, and then it answers."""

    label = "user@edge"

    def __init__(self, error: TransportError, times: int) -> None:
        self._errors = [error] * times

    def home(self) -> str:
        if self._errors:
            raise self._errors.pop()
        return "/home/user"


def test_an_edge_node_that_is_booting_is_waited_for() -> None:
    booting = FarAway(ConnectFailed("connection refused", transient=True), 2)
    assert reached(booting, lambda words: None).insist(lambda: "done") == "done"


def test_one_that_gives_no_answer_for_minutes_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "FIRST_CONTACT_S", 1.0)
    monkeypatch.setattr("dagster_glue.jobs.link._SAID_AFTER_S", 0.0)
    said: list[str] = []
    with pytest.raises(ConnectFailed, match="connection refused"):
        reached(FarAway(ConnectFailed("connection refused", transient=True), 99), said.append)
    assert said[0] == "user@edge has not answered for 0 s (connection refused); trying on"


def test_a_login_that_is_refused_is_not_tried_again() -> None:
    away = FarAway(AuthenticationFailed("no such key"), 1)
    with pytest.raises(AuthenticationFailed):
        reached(away, lambda words: None)
    assert away.home() == "/home/user"


def test_a_wait_that_is_over_ends_the_patience() -> None:
    def fail() -> None:
        raise TransportError("cut", transient=True)

    begin = time.monotonic()
    with pytest.raises(QueueTimeout, match=r"^Slurm gave no answer within queue_timeout \(0.1 s\)"):
        Patience("Slurm", lambda words: None, QueueWait(0.1)).insist(fail)
    assert time.monotonic() - begin < 5


def test_a_queue_timeout_says_what_was_waited_for_last() -> None:
    wait = QueueWait(0.0)
    wait.note("job 7 waits in partition p: limited by a quota")
    told = wait.explained(ClusterError("the wait is over"), "c-1")
    assert isinstance(told, QueueTimeout)
    assert "was withdrawn: job 7 waits in partition p: limited by a quota. Give a longer" in str(
        told
    )
