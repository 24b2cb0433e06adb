"""``call`` with a terminal, driven through a pseudo-terminal as a person would."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_provider.transport import SshSettings
from tests.slurm_provider.transport.real_sshd import Sshd

CALLER = """
import sys, termios
from slurm_provider.transport import SshSettings, SshTransport
transport = SshTransport(eval(sys.argv[1]))
before = termios.tcgetattr(0)
code = transport.call(["sh", "-c", sys.argv[2]], tty=True)
print("SAME" if termios.tcgetattr(0) == before else "CHANGED", flush=True)
sys.exit(code)
"""


class Terminal:
    """A caller on a pseudo-terminal, and what it has shown so far."""

    def __init__(self, settings: SshSettings, script: str, rows: int, columns: int) -> None:
        self.keyboard, inner = pty.openpty()
        self.resize(rows, columns)
        self.caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, repr(settings), script],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "TERM": "vt100"},
            start_new_session=True,
        )
        os.close(inner)
        self.shown = b""

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.keyboard, termios.TIOCSWINSZ, size)

    def wait_for(self, text: bytes) -> None:
        until = time.monotonic() + 20
        while text not in self.shown:
            assert time.monotonic() < until, f"{text!r} was not shown in {self.shown!r}"
            if select.select([self.keyboard], [], [], 0.1)[0]:
                self.shown += os.read(self.keyboard, 4096)

    def press(self, keys: bytes) -> None:
        os.write(self.keyboard, keys)

    def end(self) -> None:
        if self.caller.poll() is None:
            self.caller.kill()
        self.caller.wait()
        os.close(self.keyboard)


@pytest.fixture
def terminal(
    sshd: Sshd, settings_for: Callable[..., SshSettings]
) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(
        script: str, rows: int = 24, columns: int = 80, server: Sshd = sshd
    ) -> Terminal:
        opened.append(Terminal(settings_for(server), script, rows, columns))
        return opened[-1]

    try:
        yield open_terminal
    finally:
        for each in opened:
            each.end()


def test_the_remote_terminal_has_the_size_of_this_one_and_follows_it(
    terminal: Callable[..., Terminal],
) -> None:
    script = (
        'stty size; while [ "$(stty size)" = "33 101" ]; do sleep 0.05; done; stty size; exit 7'
    )
    screen = terminal(script, 33, 101)
    screen.wait_for(b"33 101")
    screen.resize(44, 120)
    screen.wait_for(b"44 120")
    screen.wait_for(b"SAME")
    assert screen.caller.wait(10) == 7


def test_what_is_typed_before_the_command_has_started_reaches_it(
    terminal: Callable[..., Terminal],
) -> None:
    screen = terminal("read line; echo got:$line")
    screen.press(b"early\r")
    screen.wait_for(b"got:early")
    assert screen.caller.wait(10) == 0


def test_keys_reach_the_command_and_ctrl_c_does_not_end_the_caller(
    terminal: Callable[..., Terminal],
) -> None:
    script = (
        "trap 'echo interrupted; exit 9' INT; echo term=$TERM; read line; echo got:$line; "
        "while :; do sleep 0.05; done"
    )
    screen = terminal(script)
    screen.wait_for(b"term=vt100")
    screen.press(b"hello\r")
    screen.wait_for(b"got:hello")
    screen.press(b"\x03")
    screen.wait_for(b"interrupted")
    screen.wait_for(b"SAME")
    assert screen.caller.wait(10) == 9


def test_the_terminal_is_restored_when_the_connection_drops(
    terminal: Callable[..., Terminal], own_sshd: Callable[..., Sshd]
) -> None:
    server = own_sshd()
    screen = terminal("echo ready; sleep 20", server=server)
    screen.wait_for(b"ready")
    assert not termios.tcgetattr(screen.keyboard)[3] & termios.ICANON
    server.drop_connections()
    screen.wait_for(b"TransportError")
    assert termios.tcgetattr(screen.keyboard)[3] & termios.ICANON
