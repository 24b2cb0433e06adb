"""What an hour of waiting costs Slurm and the shared folder; with a clock that tests turn."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from slurm_provider import access, pacing
from slurm_provider.access import NodeAccess
from slurm_provider.cluster import Cluster
from slurm_provider.cluster_paths import ClusterPaths
from slurm_provider.errors import ClusterError

HOUR_S = 3600.0


class Waiting:
    """A head that waits in the queue, and when it was asked after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.listings: list[float] = []
        self.looks: list[float] = []
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep)
        monkeypatch.setattr(pacing, "time", clock)
        monkeypatch.setattr(access, "waiting_words", lambda *_: "waits")

    def access(self) -> NodeAccess:
        files = SimpleNamespace(list_dir=self._look, write_file=lambda *_, **__: None)
        store = SimpleNamespace(paths=ClusterPaths("/c"), report=self._look, transport=files)
        cluster = SimpleNamespace(store=store, fleet=SimpleNamespace(nodes=self._list))
        return NodeAccess(cast(Cluster, cluster), "head-0")

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > 2 * HOUR_S:
            raise TimeoutError

    def _look(self, _: str) -> dict[str, Any]:
        """A report without a state, and a folder without names."""
        self.looks.append(self.now)
        return {}

    def _list(self) -> list[Any]:
        self.listings.append(self.now)
        return [SimpleNamespace(node_id="head-0")]

    def assert_within_budget(self) -> None:
        first = [at for at in self.listings if at <= HOUR_S]
        assert 60 < len(first) <= 120
        assert len(self.listings) - len(first) <= 60
        gaps = [(at, later - at) for at, later in pairwise(self.looks)]
        assert all(gap >= 0.5 for at, gap in gaps if at >= 60)


def test_a_head_that_waits_for_hours_costs_two_squeue_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = Waiting(monkeypatch)
    with pytest.raises(ClusterError, match="no longer waiting"):
        waiting.access().wait_ready(lambda _: None, lambda: waiting.now < 2 * HOUR_S - 2)
    waiting.assert_within_budget()


def test_a_start_of_ray_that_takes_hours_costs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch)
    with pytest.raises(TimeoutError):
        waiting.access().start_ray("ray start --head", {})
    waiting.assert_within_budget()


def test_a_head_that_starts_at_once_is_noticed_at_once() -> None:
    assert pacing.folder_interval_s(5) == 0.05
    assert pacing.queue_interval_s(5) == 2
