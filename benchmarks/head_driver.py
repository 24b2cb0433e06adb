"""``driver.py``, or another program, running on a cluster's head, as an object."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from benchmarks.errors import BenchmarkError
from benchmarks.sandbox_user import ROOT, SandboxUser

TIMEOUT_S = 180.0


class Cluster(Protocol):
    """What is needed of a cluster to run a driver on its head."""

    @property
    def host(self) -> str: ...
    @property
    def environment(self) -> str: ...


class HeadDriver:
    """Sends commands, reads answers. Use ``head_driver``."""

    def __init__(self, child: subprocess.Popen[str], folder: Path) -> None:
        self._child = child
        self._folder = folder
        self._rounds = 0
        self._read = b""  # what came after the last whole line

    def submit(self, user: SandboxUser, tasks: int) -> None:
        """Submit tasks that need as many new workers; ``answer`` has their moments."""
        self._rounds += 1
        marks = user.subfolder(self._folder / f"round-{self._rounds}")
        self._send({"tasks": tasks, "folder": str(marks)})

    def wait_alive(self, nodes: int) -> None:
        self._send({"alive": nodes})
        self.answer()

    def measure(self) -> dict[str, float]:
        """One round of a program that measures for each line."""
        self._send({})
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line of JSON; raises BenchmarkError if the driver ended or is silent."""
        assert self._child.stdout is not None
        said: list[str] = []
        deadline = time.monotonic() + TIMEOUT_S
        descriptor = self._child.stdout.fileno()
        while True:
            while b"\n" in self._read:
                line, _, self._read = self._read.partition(b"\n")
                if line.startswith(b"{"):
                    return dict(json.loads(line))
                said.append(line.decode(errors="replace"))
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left_s)[0]:
                break
            # Not by readline: of two lines that came at once it would keep one that select misses.
            data = os.read(descriptor, 1 << 16)
            if not data:
                words = "\n".join(said)[-2000:]
                raise BenchmarkError(f"the driver on the head ended: {words}")
            self._read += data
        raise BenchmarkError(f"the driver on the head gave no answer in {TIMEOUT_S:.0f} s")

    def _send(self, command: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(command) + "\n")
        self._child.stdin.flush()


@contextmanager
def head_driver(
    user: SandboxUser, cluster: Cluster, program: str = "driver.py"
) -> Iterator[HeadDriver]:
    """A connected driver on the head of ``cluster``, ended with the block."""
    script = f"{cluster.environment} && exec python {ROOT}/benchmarks/{program}"
    with (
        user.folder() as folder,
        user.started("bash", "-c", script, host=cluster.host, stdin=subprocess.PIPE) as child,
    ):
        driver = HeadDriver(child, folder)
        driver.answer()
        yield driver
