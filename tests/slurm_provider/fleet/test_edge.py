"""A head on an edge node, looked for from that host and from another one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from slurm_provider.errors import ClusterError
from slurm_provider.fleet.edge import HEARTBEAT_STALE_S, EdgeHead, EdgePlace
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import Completed, LocalTransport

LAUNCH = "headlaunch"
ELSEWHERE = "another-login-node"


@pytest.fixture
def store(tmp_path: Path) -> ClusterStore:
    store = ClusterStore(LocalTransport(), str(tmp_path / "cluster"))
    store.create("demo")
    return store


@pytest.fixture
def edge(store: ClusterStore) -> EdgeHead:
    return EdgeHead(LocalTransport(), store)


@pytest.fixture
def agent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that names its launch, as an agent does."""
    code = "import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, LAUNCH]) as process:
        yield process
        process.kill()


def place(pid: int, host: str | None = None) -> EdgePlace:
    return EdgePlace(f"{LAUNCH}-0", "head", pid, host or socket.gethostname())


def report(store: ClusterStore, **values: Any) -> None:
    data = json.dumps({"node_id": f"{LAUNCH}-0", **values}).encode()
    store.transport.write_file(store.paths.report(f"{LAUNCH}-0"), data)


class TestOnItsHost:
    def test_it_lives_as_long_as_its_process(
        self, edge: EdgeHead, agent: subprocess.Popen[bytes]
    ) -> None:
        assert edge.is_alive(place(agent.pid))
        agent.kill()
        agent.wait()
        assert not edge.is_alive(place(agent.pid))

    def test_another_program_under_its_old_number_is_not_taken_for_it(
        self, edge: EdgeHead, agent: subprocess.Popen[bytes]
    ) -> None:
        assert not edge.is_alive(replace(place(agent.pid), node_id="another-0"))

    def test_its_own_word_that_it_ended_counts_more(
        self, edge: EdgeHead, store: ClusterStore, agent: subprocess.Popen[bytes]
    ) -> None:
        report(store, state="ended")
        assert not edge.is_alive(place(agent.pid))


class TestFromAnotherHost:
    """Its process cannot be seen, and a process of the same number here means nothing."""

    def test_a_fresh_heartbeat_is_life(self, edge: EdgeHead, store: ClusterStore) -> None:
        report(store, state="joined", heartbeat=time.time() - HEARTBEAT_STALE_S / 2)
        assert edge.is_alive(place(999_999_999, ELSEWHERE))

    def test_a_stale_one_is_its_end(
        self, edge: EdgeHead, store: ClusterStore, agent: subprocess.Popen[bytes]
    ) -> None:
        report(store, state="joined", heartbeat=time.time() - HEARTBEAT_STALE_S - 5)
        assert not edge.is_alive(place(agent.pid, ELSEWHERE))

    def test_none_yet_proves_nothing(self, edge: EdgeHead, store: ClusterStore) -> None:
        assert edge.is_alive(place(999_999_999, ELSEWHERE))
        report(store, state="starting")
        assert edge.is_alive(place(999_999_999, ELSEWHERE))


def test_an_edge_node_that_gives_no_answer_leaves_it_unknown(store: ClusterStore) -> None:
    class Mute(LocalTransport):
        def run(self, *_: Any, **__: Any) -> Completed:
            return Completed((), 255, "", "")

    with pytest.raises(ClusterError, match="gave no answer"):
        EdgeHead(Mute(), store).is_alive(place(1))


def test_it_is_stopped_by_a_file_that_its_agent_looks_for(
    edge: EdgeHead, store: ClusterStore
) -> None:
    where = place(1, ELSEWHERE)
    assert edge.place() is None
    store.transport.write_file(store.paths.edge, json.dumps(asdict(where)).encode())
    assert edge.place() == where
    edge.stop(where)
    assert Path(store.paths.stop(where.node_id)).exists()
