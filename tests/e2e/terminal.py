"""A command under a terminal of its own, as a person would run it."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import time
from collections.abc import Iterator

from tests.sandbox_fixture import ROOT


class Terminal:
    """Types text and reads what comes back."""

    def __init__(self, argv: list[str]) -> None:
        self.output = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            try:
                os.chdir(ROOT)
                os.execvp(argv[0], argv)
            finally:
                os._exit(127)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str, timeout_s: float = 30) -> None:
        """Read until the text has come; fails the test when it does not."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            assert time.monotonic() < deadline, f"no {text!r} in: {self.output}"
            if not self._read(0.2):
                assert text in self.output, f"it ended without {text!r}: {self.output}"

    def wait(self, timeout_s: float = 30) -> int:
        """Exit code of the command, once it has ended."""
        deadline = time.monotonic() + timeout_s
        while self._read(0.2):
            assert time.monotonic() < deadline, f"still running: {self.output}"
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        os.close(self._fd)
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def _read(self, timeout_s: float) -> bool:
        """Take in what is there; False once the other end is closed."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False  # EIO: how Linux says that the last user of the terminal has gone
        self.output += data.decode(errors="replace")
        return bool(data)


@contextlib.contextmanager
def terminal(argv: list[str]) -> Iterator[Terminal]:
    opened = Terminal(argv)
    try:
        yield opened
    finally:
        opened.close()
