"""`ray dashboard` while a test needs it, and its answers."""

from __future__ import annotations

import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

from tests.e2e.cluster import Cluster
from tests.sandbox_fixture import wait_for


@contextlib.contextmanager
def dashboard(cluster: Cluster) -> Iterator[int]:
    """The local port on which `ray dashboard` offers the cluster's dashboard."""
    port = _free_port()
    with cluster.background(cluster.ray_argv("dashboard", "-p", str(port))) as process:

        def answers() -> bool:
            assert process.poll() is None, process.communicate()[0]
            with contextlib.suppress(OSError):
                return status_of(port, "/") == 200
            return False

        wait_for(answers, 40)
        yield port


def status_of(port: int, path: str, token: str | None = None, host: str = "127.0.0.1") -> int:
    """HTTP status; raises OSError where nothing answers."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://{host}:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def is_open(port: int) -> bool:
    """Whether something listens there on this machine."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
