"""What it means to run a command and to move files, wherever that happens."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Completed:
    """A command that ran to its end.

    ``returncode`` is the exit code, or 128 plus the signal's number for a local command that a
    signal ended, as shells report it. Output is UTF-8, undecodable bytes replaced.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


class TransportError(Exception):
    """A command or file operation could not be carried out, or its outcome is unknown.

    ``transient`` says that the same call may well succeed later without anybody changing
    anything. It does not say that nothing happened: a command whose connection dropped may have
    run.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class CommandTimeout(TransportError):
    """The command did not end in time; whether it had its effect is unknown."""


class CommandNotFound(TransportError):
    """There is no such command on that side's PATH."""


class ConnectFailed(TransportError):
    """The other side could not be reached."""


class AuthenticationFailed(TransportError):
    """The other side was reached and refused the login."""


class HostKeyRejected(TransportError):
    """The other side could not prove to be the host it should be."""


class ByteWriter(Protocol):
    """The writing end of a pipe."""

    def write(self, data: bytes, /) -> object: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class ByteReader(Protocol):
    """The reading end of a pipe; ``b""`` means it has ended."""

    def read1(self, size: int, /) -> bytes: ...
    def read(self, size: int = -1, /) -> bytes: ...


class Process(Protocol):
    """A running command with binary pipes. Its standard error is collected in the background."""

    @property
    def stdin(self) -> ByteWriter: ...
    @property
    def stdout(self) -> ByteReader: ...

    @property
    def stderr_tail(self) -> str:
        """The last 64 KiB of standard error so far; complete once the command has ended."""
        ...

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end and return the exit code.

        The caller has to read ``stdout``: a command that fills its pipe does not end.

        Raises:
            CommandTimeout: it still runs after ``timeout_s`` seconds (and goes on running).
            TransportError: the connection to it dropped; its exit code is unknown.
        """
        ...

    def terminate(self) -> None:
        """Ask the command to end (SIGTERM). Harmless when it has ended already."""
        ...


class SocketLike(Protocol):
    """The part of a TCP socket that both sides offer."""

    def recv(self, nbytes: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> None: ...
    def settimeout(self, timeout: float | None, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class Transport(Protocol):
    """Run commands and move files on one side. Safe to use from several threads at once.

    Paths are absolute. File operations raise the usual ``OSError`` kinds (``FileNotFoundError``,
    ``PermissionError``, …) and ``TransportError`` when the side itself cannot be reached.
    Commands start without the Slurm and Ray variables that :mod:`.env` names.
    """

    @property
    def label(self) -> str:
        """Where this is, for messages: ``here`` or ``user1@edge``."""
        ...

    def run(
        self, argv: Sequence[str], *, timeout_s: float, stdin: bytes | None = None
    ) -> Completed:
        """Run a command to its end, in the C locale. Any exit code is a normal result.

        The call lasts until the command *and* whatever inherited its output have closed it, so
        a daemon that is started this way must redirect its output.

        Raises:
            CommandTimeout: it did not end within ``timeout_s`` seconds.
            CommandNotFound: there is no such command.
            TransportError: the exit code or part of the output was lost.
        """
        ...

    def popen(self, argv: Sequence[str]) -> Process:
        """Start a command in the C locale with binary pipes and no terminal."""
        ...

    def call(self, argv: Sequence[str], *, tty: bool) -> int:
        """Run a command on this process's own standard streams and return its exit code.

        With ``tty`` an SSH transport asks for a remote terminal that follows the size of this
        one; locally the command simply inherits the terminal. The user's locale is kept.
        """
        ...

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Create or replace a file in one step.

        Nobody sees a half-written file or one with wider permissions than ``mode``. Missing
        parent folders are made with mode 0700.
        """
        ...

    def read_file(self, path: str) -> bytes:
        """The content of a file. Raises FileNotFoundError."""
        ...

    def list_dir(self, path: str) -> list[str]:
        """The sorted names in a folder. Raises FileNotFoundError.

        A name like ``.….tmp`` is a file that :meth:`write_file` is about to put in place.
        """
        ...

    def make_dir(self, path: str, *, mode: int = 0o700) -> None:
        """Make a folder and its missing parents. An existing folder is left as it is."""
        ...

    def remove_tree(self, path: str) -> None:
        """Remove a file or a folder with all it holds; symlinks are not followed.

        A missing path is fine. ``/`` and what lies directly in it are refused (ValueError).
        """
        ...

    def home(self) -> str:
        """The user's home folder there, as ``$HOME`` says it."""
        ...

    def open_connection(self, host: str, port: int) -> SocketLike:
        """A TCP connection to ``host:port`` as seen from that side. Raises ConnectFailed."""
        ...

    def close(self) -> None:
        """Give back what this transport holds. A later call opens it again."""
        ...


def absolute(path: str) -> str:
    """``path`` itself; raises ValueError unless it is absolute and free of NUL."""
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"not an absolute path: {path!r}")
    return path


def removable(path: str) -> str:
    """``path`` itself; raises ValueError for ``/`` and what lies directly in it."""
    if posixpath.normpath(absolute(path)).strip("/").count("/") < 1:
        raise ValueError(f"refusing to remove {path!r}: it is a top-level folder")
    return path
