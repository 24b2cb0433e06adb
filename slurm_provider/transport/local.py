"""Run commands and move files on this very host."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from slurm_provider.transport.base import (
    ByteReader,
    ByteWriter,
    CommandNotFound,
    CommandTimeout,
    Completed,
    ConnectFailed,
    Process,
    SocketLike,
    TransportError,
    absolute,
    removable,
)
from slurm_provider.transport.env import scrubbed
from slurm_provider.transport.tail import Tail

CONNECT_TIMEOUT_S = 15.0
_GRACE_S = 2.0  # between SIGTERM and SIGKILL for a command that ran out of time


class LocalTransport:
    """The side this program itself runs on. Needs no set-up and no paramiko."""

    @property
    def label(self) -> str:
        return "here"

    def run(
        self, argv: Sequence[str], *, timeout_s: float, stdin: bytes | None = None
    ) -> Completed:
        """See :meth:`.base.Transport.run`. A command that runs out of time is ended."""
        child = _start(argv, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE)
        try:
            stdout, stderr = child.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _end_group(child)
            raise CommandTimeout(
                f"{argv[0]!r} did not end within {timeout_s:g} s here and was stopped; "
                "whether it had its effect is unknown",
                transient=True,
            ) from None
        except BaseException:
            _end_group(child)
            raise
        return Completed(
            tuple(argv),
            _exit_code(child.returncode),
            stdout.decode("utf-8", "replace"),
            stderr.decode("utf-8", "replace"),
        )

    def popen(self, argv: Sequence[str]) -> Process:
        return _LocalProcess(_start(argv, stdin=subprocess.PIPE), argv[0])

    def call(self, argv: Sequence[str], *, tty: bool) -> int:
        """See :meth:`.base.Transport.call`. ``tty`` changes nothing here."""
        with _interrupts_left_to_the_child():
            child = _popen(argv, env=scrubbed(os.environ, keep_locale=True))
            return _exit_code(child.wait())

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        folder, name = os.path.split(absolute(path))
        self.make_dir(folder)
        temporary = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(8)}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.rename(temporary, path)
        except BaseException as error:
            os.unlink(temporary)
            if isinstance(error, OSError):
                error.filename = path  # a full disk is told without one
            raise

    def read_file(self, path: str) -> bytes:
        with open(absolute(path), "rb") as file:
            return file.read()

    def list_dir(self, path: str) -> list[str]:
        return sorted(os.listdir(absolute(path)))

    def make_dir(self, path: str, *, mode: int = 0o700) -> None:
        if os.path.isdir(absolute(path)):
            return
        self.make_dir(os.path.dirname(path.rstrip("/")), mode=0o700)
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
        else:
            os.chmod(path, mode)  # the umask took bits off the mode that mkdir was given

    def remove_tree(self, path: str) -> None:
        path = removable(path).rstrip("/")
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, onerror=_ignore_missing)
            else:
                os.unlink(path)

    def home(self) -> str:
        return os.path.expanduser("~")

    def open_connection(self, host: str, port: int) -> SocketLike:
        try:
            connection = socket.create_connection((host, port), CONNECT_TIMEOUT_S)
        except OSError as error:
            raise ConnectFailed(
                f"{host}:{port} cannot be reached from here ({error.strerror or error}): "
                "check that the service runs and listens there",
                transient=True,
            ) from error
        connection.settimeout(None)
        return connection

    def close(self) -> None:
        """Nothing is held."""


class _LocalProcess:
    """A child in its own process group: a Ctrl-C at the terminal is not meant for it."""

    def __init__(self, child: subprocess.Popen[bytes], name: str) -> None:
        assert child.stderr is not None
        self._child = child
        self._name = name
        self._tail = Tail(child.stderr.read1, child.stderr.close)  # type: ignore[attr-defined]

    @property
    def stdin(self) -> ByteWriter:
        assert self._child.stdin is not None
        return self._child.stdin

    @property
    def stdout(self) -> ByteReader:
        return self._child.stdout  # type: ignore[return-value]  # a BufferedReader at run time

    @property
    def stderr_tail(self) -> str:
        return self._tail.text()

    def wait(self, timeout_s: float | None = None) -> int:
        try:
            returncode = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise CommandTimeout(
                f"{self._name!r} still runs here after {timeout_s:g} s", transient=True
            ) from None
        self._tail.join(1.0)  # a grandchild may hold stderr open for longer
        return _exit_code(returncode)

    def terminate(self) -> None:
        if self._child.poll() is None:
            _signal_group(self._child, signal.SIGTERM)


def _start(argv: Sequence[str], *, stdin: int) -> subprocess.Popen[bytes]:
    return _popen(
        argv,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=scrubbed(os.environ),
        start_new_session=True,
    )


def _popen(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(list(argv), **options)
    except FileNotFoundError:
        raise CommandNotFound(
            f"command {argv[0]!r} not found here (PATH={os.environ.get('PATH', '')}): "
            "install it or extend PATH"
        ) from None
    except OSError as error:
        if error.errno == errno.E2BIG:
            reason = "its command line is too long: pass the data on standard input"
        else:
            reason = f"{error.strerror or error}"
        raise TransportError(f"{argv[0]!r} cannot be started here: {reason}") from error


def _exit_code(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


def _end_group(child: subprocess.Popen[bytes]) -> None:
    _signal_group(child, signal.SIGTERM)
    try:
        child.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        _signal_group(child, signal.SIGKILL)
        child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


@contextlib.contextmanager
def _interrupts_left_to_the_child() -> Iterator[None]:
    """While an interactive child runs, Ctrl-C is for it to handle, as in a shell.

    A handler rather than SIG_IGN, which children would inherit. Only the main thread may set one,
    and only it receives the interrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ignore_missing(_: Callable[..., Any], __: str, info: Any) -> None:
    """Entries may vanish meanwhile, as when a dying process removes its own files."""
    if not issubclass(info[0], FileNotFoundError):
        raise info[1]
