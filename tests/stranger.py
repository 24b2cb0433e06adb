"""Another user's program that listens where our secrets could go, and keeps what it gets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534
_LISTEN = """
import os, socket, sys
uid, port, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
received = open(path, "wb", buffering=0)
os.setgid(uid); os.setuid(uid)
server = socket.create_server(("127.0.0.1", port))
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(5)
        try:
            received.write(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n[]")
        except OSError:
            pass
"""


class Stranger:
    """A process of user nobody that answers every connection on a loopback port."""

    uid = NOBODY

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Port 0 means a free one. Needs root."""
        self._received = folder / "received"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LISTEN, str(NOBODY), str(port), str(self._received)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def received(self) -> bytes:
        """All that anybody sent."""
        return self._received.read_bytes()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def listening(folder: Path, port: int = 0) -> Iterator[Stranger]:
    if os.geteuid() != 0:
        pytest.skip("another user's program needs root")
    stranger = Stranger(folder, port)
    try:
        yield stranger
    finally:
        stranger.close()
