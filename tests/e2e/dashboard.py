"""`ray dashboard` and `ray-slurm dashboard` while a test needs them, and their answers."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

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


def submits_a_job(cluster: Cluster, port: int) -> None:
    """`ray job submit` through this port runs a job on the head; fails the test otherwise."""
    done = cluster.run(
        "env", "RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN_PATH={cluster.dir}/token",
        "ray", "job", "submit", "--address", f"http://127.0.0.1:{port}", "--",
        "sh", "-c", "echo job on $(hostname)",
    )  # fmt: skip
    assert f"job on {cluster.head()['host']}" in done.output
    assert "succeeded" in done.output


def relays(cluster: Cluster) -> list[int]:
    """Pids of the processes on the head's host that carry a tunnel to its dashboard."""
    port = str(cluster.head()["dashboard_port"]).encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            is_ours = len(words) > 1 and str(cluster.dir).encode() in words[1]
            if is_ours and words[2:5] == [b"relay", b"127.0.0.1", port]:
                found.append(int(process.name))
    return found


class Links:
    """What `ray-slurm dashboard` prints, as it comes."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "slurm_provider.cli", "dashboard", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.output = ""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    @property
    def all(self) -> list[str]:
        return re.findall(r"http://127\.0\.0\.1:\d+/\S+", self.output)

    def wait_for(self, number: int) -> str:
        """The link of this number, counted from 0; fails the test when it does not come."""

        def printed() -> str:
            assert self._process.poll() is None or len(self.all) > number, self.output
            return self.all[number] if len(self.all) > number else ""

        return str(wait_for(printed, 40))

    def wait_for_words(self, words: str) -> None:
        wait_for(lambda: words in self.output or self._process.poll() is not None, 60)
        assert words in self.output, self.output

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(20)
        self._reading.join(10)
        return code

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line


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
