"""One shared SSH connection for equal settings: opened when needed, reopened after a drop."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable

import paramiko

from slurm_provider.transport.base import ConnectFailed, SocketLike, TransportError
from slurm_provider.transport.ssh.endpoint import Endpoint, resolve
from slurm_provider.transport.ssh.files import SftpFiles
from slurm_provider.transport.ssh.opening import OpenedConnection, open_connection
from slurm_provider.transport.ssh_settings import SshSettings

MAX_SESSIONS = 8
"""sshd allows ten sessions on a connection by default (MaxSessions); some sites allow fewer."""

_FIRST_RETRY_S = 0.02
_LAST_RETRY_S = 0.5

# What paramiko says when two channels are refused at once and the other thread took the reason.
_UNEXPLAINED_REFUSAL = "Unable to open channel."


class Session:
    """A channel for one command, counted against MAX_SESSIONS until it is closed."""

    def __init__(self, channel: paramiko.Channel, give_back: Callable[[], None]) -> None:
        self.channel = channel
        self._give_back = give_back
        self._is_open = True
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            was_open, self._is_open = self._is_open, False
        if was_open:
            try:
                self.channel.close()
            except (paramiko.SSHException, EOFError, OSError):
                pass  # the connection ended first
            finally:
                self._give_back()


class Connection:
    """Safe to use from many threads. Made by :func:`acquire`, ended by :func:`release`."""

    def __init__(self, settings: SshSettings, passed: tuple[SshSettings, ...]) -> None:
        self._settings = settings
        self._passed = (*passed, settings)
        self.files = SftpFiles(self, settings.label)
        """Shared as well: a channel for each user of the connection would soon be too many."""
        self._slots = threading.BoundedSemaphore(MAX_SESSIONS)
        self._lock = threading.Lock()
        self._opened: OpenedConnection | None = None
        self._via: SshSettings | None = None
        self._attempts = 0
        self._last_failure: TransportError | None = None

    def client(self) -> paramiko.Transport:
        """The live connection, opened now if there is none. Raises like :func:`open_connection`.

        Threads that come while one is connecting share its outcome: a host that is down costs
        them one time-out, not one each.
        """
        attempts_before = self._attempts
        with self._lock:
            if self._opened is not None and self._opened.client.is_active():
                return self._opened.client
            if self._attempts != attempts_before and self._last_failure is not None:
                failure = self._last_failure
                raise type(failure)(str(failure), transient=failure.transient)
            self._attempts += 1
            self._last_failure = None
            self._close_opened()
            try:
                endpoint = resolve(self._settings)
                self._hold_jump_host(endpoint)
                self._opened = open_connection(self._settings, endpoint, self._open_via)
            except TransportError as failure:
                self._last_failure = failure
                raise
            return self._opened.client

    def open_session(self, timeout_s: float) -> Session:
        """A channel for a command, within ``timeout_s`` seconds of waiting for a free one.

        Raises TransportError (transient) when all stay taken.
        """
        deadline = time.monotonic() + timeout_s
        if not self._slots.acquire(timeout=timeout_s):
            raise self._busy(f"all {MAX_SESSIONS} are in use")
        pause_s = _FIRST_RETRY_S
        try:
            while True:
                try:
                    channel = self._open_channel("session", None)
                    return Session(channel, self._slots.release)
                except paramiko.ChannelException as error:
                    # The server's own limit is lower, or it has not noticed yet that another
                    # session is over.
                    if time.monotonic() + pause_s > deadline:
                        raise self._busy(f"the server refuses more: {error}") from error
                    time.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LAST_RETRY_S)
        except BaseException:
            self._slots.release()
            raise

    def open_tcp(self, host: str, port: int) -> paramiko.Channel:
        """A TCP connection made by the server. Raises ConnectFailed when it refuses."""
        label = self._settings.label
        try:
            return self._open_channel("direct-tcpip", (host, port))
        except paramiko.ChannelException as error:
            if error.code == 1:  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED
                raise ConnectFailed(
                    f"{label} does not forward TCP connections ({error.text}): ask for "
                    "AllowTcpForwarding, or choose another host"
                ) from error
            raise ConnectFailed(
                f"{host}:{port} cannot be reached from {label} ({error.text}): check that the "
                "service runs and listens there",
                transient=True,
            ) from error

    def drop(self, client: paramiko.Transport) -> None:
        """Forget a connection that turned out to be dead; the next call opens another."""
        with self._lock:
            if self._opened is not None and self._opened.client is client:
                self._close_opened()
        client.close()

    def close(self) -> None:
        with self._lock:
            self._close_opened()
            via, self._via = self._via, None
        if via is not None:
            release(via)

    def _open_channel(self, kind: str, target: tuple[str, int] | None) -> paramiko.Channel:
        for is_last_try in (False, True):
            client = self.client()
            try:
                return client.open_channel(
                    kind,
                    target,
                    ("127.0.0.1", 0) if target is not None else None,
                    timeout=self._settings.connect_timeout_s,
                )
            except paramiko.ChannelException:
                raise
            except (paramiko.SSHException, EOFError, OSError) as error:
                if client.is_active() and str(error) == _UNEXPLAINED_REFUSAL:
                    raise paramiko.ChannelException(4, "refused") from error
                if client.is_active() and target is not None:
                    raise ConnectFailed(
                        f"{target[0]}:{target[1]} does not answer {self._settings.label} "
                        f"({error}): check that the service runs and no firewall is between",
                        transient=True,
                    ) from error
                # Nothing has been asked of the other side yet, so trying again is safe.
                self.drop(client)
                if is_last_try:
                    raise ConnectFailed(
                        f"the connection to {self._settings.label} dropped twice in a row "
                        f"({error or type(error).__name__}): try again later",
                        transient=True,
                    ) from error
        raise AssertionError("unreachable")

    def _hold_jump_host(self, endpoint: Endpoint) -> None:
        if endpoint.via == self._via:
            return
        if endpoint.via is not None:
            if endpoint.via in self._passed:
                chain = " -> ".join(step.label for step in (*self._passed, endpoint.via))
                raise ConnectFailed(
                    f"the jump hosts of {self._passed[0].label} form a loop ({chain}): mend "
                    "jump_host or ProxyJump"
                )
            acquire(endpoint.via, self._passed)
        if self._via is not None:
            release(self._via)
        self._via = endpoint.via

    def _open_via(self, via: SshSettings, target: tuple[str, int]) -> SocketLike:
        return acquired(via).open_tcp(*target)

    def _close_opened(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _busy(self, why: str) -> TransportError:
        return TransportError(
            f"no free session on the connection to {self._settings.label} ({why}): end commands "
            "that run there, or ask for a higher MaxSessions in its sshd",
            transient=True,
        )


_pool: dict[SshSettings, tuple[Connection, int]] = {}
_pool_lock = threading.Lock()


def acquire(settings: SshSettings, passed: tuple[SshSettings, ...] = ()) -> Connection:
    """The connection for ``settings``; each call is one more user of it until :func:`release`."""
    with _pool_lock:
        connection, users = _pool.get(settings) or (Connection(settings, passed), 0)
        _pool[settings] = (connection, users + 1)
        return connection


def acquired(settings: SshSettings) -> Connection:
    """The connection that somebody holds; a fork's child starts without any and makes its own."""
    with _pool_lock:
        if settings not in _pool:
            _pool[settings] = (Connection(settings, ()), 1)
        return _pool[settings][0]


def release(settings: SshSettings) -> None:
    """One user less; the last one closes the connection."""
    with _pool_lock:
        if settings not in _pool:
            return
        connection, users = _pool.pop(settings)
        if users > 1:
            _pool[settings] = (connection, users - 1)
            return
    connection.close()


@atexit.register
def _close_all() -> None:
    with _pool_lock:
        connections = [connection for connection, _ in _pool.values()]
        _pool.clear()
    for connection in connections:
        with contextlib.suppress(Exception):  # the process ends anyway
            connection.close()


def _forget_after_fork() -> None:
    """A child has the parent's sockets but none of its threads: it must not touch them."""
    global _pool, _pool_lock
    _abandoned.append(_pool)  # dropping it would close connections that the parent still uses
    _pool = {}
    _pool_lock = threading.Lock()


_abandoned: list[dict[SshSettings, tuple[Connection, int]]] = []
os.register_at_fork(after_in_child=_forget_after_fork)
