"""Whose process listens on a port of this host: real sockets, of this user and of another."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from slurm_provider.agent.job_lease import jobs_run
from slurm_provider.cluster_paths import ClusterPaths
from slurm_provider.listener import (
    StrangerListens,
    check_owner,
    check_owner_async,
    listener_owner,
)
from slurm_provider.loopback_http import opener
from tests.stranger import Stranger, listening


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Stranger]:
    with listening(tmp_path) as found:
        yield found


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])
def test_our_own_server_is_known_by_either_family(family: socket.AddressFamily) -> None:
    where = "127.0.0.1" if family == socket.AF_INET else "::"
    both = family == socket.AF_INET6
    with socket.create_server((where, 0), family=family, dualstack_ipv6=both) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                check_owner(client)
        assert listener_owner(port) == os.getuid()


def test_another_users_server_is_refused_whether_it_accepts_or_not(stranger: Stranger) -> None:
    with socket.create_connection(("127.0.0.1", stranger.port)) as client:
        with pytest.raises(StrangerListens, match=rf"another user \(uid {stranger.uid}\)"):
            check_owner(client)
        with pytest.raises(StrangerListens):
            asyncio.run(check_owner_async(client))
    assert listener_owner(stranger.port) == stranger.uid


def test_a_port_without_a_server_has_no_owner() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert listener_owner(bound.getsockname()[1]) is None


def test_a_request_with_a_token_never_reaches_another_user(stranger: Stranger) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{stranger.port}/api/jobs/")
    request.add_header("Authorization", "Bearer secret")
    with pytest.raises(OSError, match="belongs to another user"):
        opener().open(request, timeout=5)
    assert stranger.received() == b""


def test_the_heads_question_for_jobs_never_reaches_another_user(
    stranger: Stranger, tmp_path: Path
) -> None:
    paths = ClusterPaths(str(tmp_path))
    Path(paths.token).write_text("secret")
    Path(paths.head).write_text(json.dumps({"dashboard_port": stranger.port}))
    assert jobs_run(paths) is None  # unknown, not "no jobs"
    assert stranger.received() == b""


def test_a_request_to_our_own_server_is_answered() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write((self.headers["Authorization"] or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/")
    request.add_header("Authorization", "Bearer ours")
    with opener().open(request, timeout=5) as answer:
        assert answer.read() == b"Bearer ours"
    server.server_close()
