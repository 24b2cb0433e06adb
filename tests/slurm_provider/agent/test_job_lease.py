from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from slurm_provider.agent import head as head_module
from slurm_provider.agent.head import Head
from slurm_provider.agent.job_lease import ASK_EVERY_S, NAME, SILENT_S, JobLease, jobs_run
from slurm_provider.agent.leases import read_leases
from slurm_provider.agent.node import Node
from slurm_provider.cluster_paths import ClusterPaths

TIMEOUT_S = 30.0


class World:
    """A head's looks at its leases, on a clock that only the tests move."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.has_jobs: bool | None = False
        self.asked = 0
        self.paths = ClusterPaths(str(folder))
        monkeypatch.setattr(head_module, "time", SimpleNamespace(monotonic=lambda: self.now))
        spec = SimpleNamespace(node_id="a-0", values={"unleased_timeout_s": TIMEOUT_S})
        self.head = Head(cast(Node, SimpleNamespace(paths=self.paths, spec=spec)))
        self.head._job_lease = JobLease(self.paths, self._answer)

    def _answer(self) -> bool | None:
        self.asked += 1
        return self.has_jobs

    def lease(self, ttl_s: float) -> None:
        Path(self.paths.leases).mkdir(exist_ok=True)
        Path(self.paths.leases, "step.json").write_text(json.dumps({"ttl_s": ttl_s}))

    @property
    def names(self) -> set[str]:
        return set(read_leases(self.paths.leases))

    def leaves_after_s(self, within_s: float) -> float | None:
        """When the head wants to leave, in seconds from now; None if it does not in time."""
        begin = self.now
        while self.now - begin <= within_s:
            if self.head._is_unwanted():
                return self.now - begin
            self.now += 1
        return None


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_head_does_not_leave_while_a_job_runs_that_nobody_leases_it_for(world: World) -> None:
    world.lease(ttl_s=60)
    world.has_jobs = True
    assert world.leaves_after_s(20_000) is None
    assert NAME in world.names

    world.has_jobs = False
    after_s = world.leaves_after_s(1000)
    assert after_s is not None
    assert TIMEOUT_S <= after_s <= TIMEOUT_S + ASK_EVERY_S + 4


def test_ray_is_not_asked_while_somebody_holds_a_lease_and_seldom_after_that(world: World) -> None:
    world.lease(ttl_s=500)
    world.has_jobs = True
    assert world.leaves_after_s(450) is None
    assert world.asked == 0
    assert world.leaves_after_s(1050) is None
    assert world.asked <= 1 + 1000 / ASK_EVERY_S


def test_the_job_s_lease_makes_way_for_a_holder_s(world: World) -> None:
    world.has_jobs = True
    assert world.leaves_after_s(100) is None
    assert world.names == {NAME}
    world.lease(ttl_s=60)
    assert world.leaves_after_s(5) is None
    assert world.names == {"step.json"}


def test_a_ray_without_an_answer_is_not_one_without_jobs_but_not_for_ever(world: World) -> None:
    world.has_jobs = None
    after_s = world.leaves_after_s(10_000)
    assert after_s is not None
    assert SILENT_S <= after_s <= SILENT_S + TIMEOUT_S + ASK_EVERY_S + 4


def test_leases_that_cannot_be_read_are_no_reason_to_leave(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(folder: str) -> dict[str, str]:
        raise OSError("Stale file handle")

    monkeypatch.setattr(head_module, "read_leases", stale)
    assert world.leaves_after_s(1000) is None
    Path(world.paths.root).mkdir(exist_ok=True)
    assert not world.head._closes()
    assert not Path(world.paths.closing).exists()


@contextmanager
def dashboard(paths: ClusterPaths, answer: bytes, *, cut: bool = False) -> Iterator[None]:
    """Answers who knows the token; ``cut`` off before the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers["Authorization"] == "Bearer secret"
            self.send_response(200 if is_known and self.path == "/api/jobs/" else 401)
            self.send_header("Content-Length", str(len(answer) + cut))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Path(paths.head).write_text(json.dumps({"dashboard_port": server.server_port}))
    Path(paths.token).write_text("secret\n")
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [([], False), (["SUCCEEDED", "FAILED", "STOPPED"], False), (["FAILED", "RUNNING"], True),
     (["PENDING"], True)],
)  # fmt: skip
def test_ray_tells_whether_jobs_run(statuses: list[str], expected: bool, tmp_path: Path) -> None:
    paths = ClusterPaths(str(tmp_path))
    with dashboard(paths, json.dumps([{"status": status} for status in statuses]).encode()):
        assert jobs_run(paths) is expected


def test_no_usable_answer_says_nothing_of_jobs_and_without_a_head_there_are_none(
    tmp_path: Path,
) -> None:
    paths = ClusterPaths(str(tmp_path))
    assert jobs_run(paths) is False
    with dashboard(paths, b"[]", cut=True):
        assert jobs_run(paths) is None
    with dashboard(paths, b"[{}]"):
        assert jobs_run(paths) is None
        Path(paths.token).write_text("another")
        assert jobs_run(paths) is None
    assert jobs_run(paths) is None  # nobody listens there any more
