"""Run commands and move files on the other side of an SSH connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import paramiko

from slurm_provider.transport.base import (
    Completed,
    Process,
    SocketLike,
    TransportError,
    absolute,
    removable,
)
from slurm_provider.transport.quote import line_for_call, line_for_popen, line_for_run
from slurm_provider.transport.ssh import connection as pool
from slurm_provider.transport.ssh.connection import Connection
from slurm_provider.transport.ssh.process import (
    SshProcess,
    final_exit_code,
    run_to_end,
    start,
)
from slurm_provider.transport.ssh.terminal import converse, request_terminal
from slurm_provider.transport.ssh_settings import SshSettings

_SESSION_WAIT_S = 30.0  # for calls without a time-out of their own
_QUICK_S = 60.0
_REMOVE_TIMEOUT_S = 600.0  # a big folder on a busy parallel file system


class SshTransport:
    """One side, reached over SSH. See :class:`.base.Transport`; connects on first use.

    All transports of a process with equal settings share one connection.
    """

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings
        self._home: str | None = None
        self._holds_connection = False
        self._lock = threading.Lock()

    @property
    def label(self) -> str:
        return self._settings.label

    def run(
        self, argv: Sequence[str], *, timeout_s: float, stdin: bytes | None = None
    ) -> Completed:
        """See :meth:`.base.Transport.run`. Connecting does not count towards ``timeout_s``."""
        line = self._line(line_for_run, argv, timeout_s)
        session = self._connection().open_session(timeout_s)
        try:
            return run_to_end(
                session, line, tuple(argv), label=self.label, timeout_s=timeout_s, stdin=stdin
            )
        finally:
            session.close()

    def popen(self, argv: Sequence[str]) -> Process:
        line = self._line(line_for_popen, argv)
        session = self._connection().open_session(_SESSION_WAIT_S)
        try:
            start(session, line, self.label, argv[0])
        except BaseException:
            session.close()
            raise
        return SshProcess(session, self.label, argv[0], self._send_sigterm)

    def call(self, argv: Sequence[str], *, tty: bool) -> int:
        line = self._line(line_for_call, argv)
        session = self._connection().open_session(_SESSION_WAIT_S)
        try:
            if tty:
                self._request_terminal(session.channel)
            start(session, line, self.label, argv[0])
            converse(session.channel, tty=tty)
            return final_exit_code(session.channel, self.label, argv[0])
        finally:
            session.close()

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        self._connection().files.write_file(absolute(path), data, mode)

    def read_file(self, path: str) -> bytes:
        return self._connection().files.read_file(absolute(path))

    def list_dir(self, path: str) -> list[str]:
        return self._connection().files.list_dir(absolute(path))

    def make_dir(self, path: str, *, mode: int = 0o700) -> None:
        self._connection().files.make_dir(absolute(path), mode)

    def remove_tree(self, path: str) -> None:
        # One command instead of a round trip for each file.
        done = self.run(["rm", "-rf", "--", removable(path)], timeout_s=_REMOVE_TIMEOUT_S)
        if done.returncode != 0:
            raise OSError(f"{path} on {self.label} cannot be removed: {done.stderr.strip()}")

    def home(self) -> str:
        if self._home is None:
            done = self.run(["printenv", "HOME"], timeout_s=_QUICK_S)
            home = done.stdout.rstrip("\n")
            if done.returncode != 0 or not home.startswith("/"):
                raise TransportError(f"{self.label} does not say where HOME is: {done.stderr}")
            self._home = home
        return self._home

    def open_connection(self, host: str, port: int) -> SocketLike:
        return self._connection().open_tcp(host, port)

    def close(self) -> None:
        with self._lock:
            held, self._holds_connection = self._holds_connection, False
        if held:
            pool.release(self._settings)

    def _connection(self) -> Connection:
        with self._lock:
            if not self._holds_connection:
                self._holds_connection = True
                return pool.acquire(self._settings)
        return pool.acquired(self._settings)

    def _line(self, make: Callable[..., str], *arguments: Any) -> str:
        try:
            return make(*arguments)
        except ValueError as error:
            raise TransportError(f"cannot run this on {self.label}: {error}") from None

    def _send_sigterm(self, process_group: int) -> None:
        # Exit code 1: it ended by itself in the meantime.
        self.run(["kill", "-TERM", "--", f"-{process_group}"], timeout_s=_QUICK_S)

    def _request_terminal(self, channel: paramiko.Channel) -> None:
        try:
            request_terminal(channel)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise TransportError(
                f"{self.label} gives no terminal ({error}): its sshd may have PermitTTY no"
            ) from error
