"""Files over SFTP, on one channel that is kept open."""

from __future__ import annotations

import contextlib
import errno
import io
import posixpath
import secrets
import stat
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import paramiko

from slurm_provider.transport.base import TransportError
from slurm_provider.transport.ssh.opening import lost

if TYPE_CHECKING:
    from slurm_provider.transport.ssh.connection import Connection, Session

STALL_TIMEOUT_S = 60.0  # a file server may hang for a while; for longer it is an outage
_SESSION_WAIT_S = 30.0

_Result = TypeVar("_Result")


class SftpFiles:
    """The files on the other side of a connection. One operation at a time: paramiko's client needs
    it."""

    def __init__(self, connection: Connection, label: str) -> None:
        self._connection = connection
        self._label = label
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._client: paramiko.SFTPClient | None = None

    def write_file(self, path: str, data: bytes, mode: int) -> None:
        self._do(path, "written", lambda sftp: _write_file(sftp, path, data, mode))

    def read_file(self, path: str) -> bytes:
        return self._do(path, "read", lambda sftp: _read_file(sftp, path))

    def list_dir(self, path: str) -> list[str]:
        return self._do(path, "listed", lambda sftp: sorted(sftp.listdir(path)))

    def make_dir(self, path: str, mode: int) -> None:
        self._do(path, "made", lambda sftp: _make_dir(sftp, path, mode))

    def _do(
        self, path: str, done: str, operation: Callable[[paramiko.SFTPClient], _Result]
    ) -> _Result:
        """Run an operation; once more on a new connection if the old one turns out dead.

        All of them may be repeated: they end in the same state however often they are begun.
        """
        with self._lock:
            for is_last_try in (False, True):
                client = self._open()
                try:
                    return operation(client)
                except (paramiko.SSHException, EOFError, OSError) as error:
                    is_stalled = isinstance(error, TimeoutError)
                    if isinstance(error, OSError) and not is_stalled and self._is_open():
                        raise self._with_path(error, path) from error
                    self._drop()
                    if is_last_try:
                        raise lost(self._label, f"{path} was {done}", error) from error
        raise AssertionError("unreachable")

    def _with_path(self, error: OSError, path: str) -> OSError:
        """SFTP's answers name no path, and most of them no reason either ("Failure")."""
        number = error.errno or errno.EIO
        text = error.strerror or f"the SFTP server says {str(error)!r}"
        return OSError(number, text, f"{self._label}:{path}")

    def _open(self) -> paramiko.SFTPClient:
        if self._client is not None and self._is_open():
            return self._client
        self._drop()
        self._session = self._connection.open_session(_SESSION_WAIT_S)
        channel = self._session.channel
        channel.settimeout(STALL_TIMEOUT_S)
        try:
            channel.invoke_subsystem("sftp")
            self._client = paramiko.SFTPClient(channel)
        except paramiko.SFTPError as error:
            self._drop()
            raise TransportError(
                f"SFTP to {self._label} is garbled ({error}): a start-up file there, such as "
                "~/.bashrc, prints text in shells that are not interactive; make it silent"
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            self._drop()
            raise TransportError(
                f"{self._label} offers no SFTP ({error or type(error).__name__}): its sshd needs "
                "a `Subsystem sftp` line",
                transient=True,
            ) from error
        return self._client

    def _is_open(self) -> bool:
        return self._session is not None and not self._session.channel.closed

    def _drop(self) -> None:
        session, self._session, self._client = self._session, None, None
        if session is not None:
            session.close()


def _write_file(sftp: paramiko.SFTPClient, path: str, data: bytes, mode: int) -> None:
    """Write in a private folder beside the target, then move into place.

    SFTP clients cannot open a file with a mode, so a new file is as wide as the server's umask
    until its mode is set. In a folder of mode 0700 nobody can open it in between.
    """
    folder, name = posixpath.split(path)
    _make_dir(sftp, folder, 0o700)
    private = posixpath.join(folder, f".{secrets.token_hex(8)}.tmp")
    temporary = posixpath.join(private, name)
    sftp.mkdir(private, 0o700)
    try:
        sftp.putfo(io.BytesIO(data), temporary)  # checks the size it arrived with
        sftp.chmod(temporary, mode)
        sftp.posix_rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError, paramiko.SSHException, EOFError):
            sftp.remove(temporary)
        raise
    finally:
        with contextlib.suppress(OSError, paramiko.SSHException, EOFError):
            sftp.rmdir(private)


def _read_file(sftp: paramiko.SFTPClient, path: str) -> bytes:
    with sftp.open(path, "rb") as file:
        size = file.stat().st_size
        if size:
            file.prefetch(size)
        return file.read()


def _make_dir(sftp: paramiko.SFTPClient, path: str, mode: int) -> None:
    if _is_dir(sftp, path):
        return
    _make_dir(sftp, posixpath.dirname(path.rstrip("/")), 0o700)
    try:
        sftp.mkdir(path, mode)
    except OSError:  # SFTP's "failure" does not say that it exists
        if not _is_dir(sftp, path):
            raise
    else:
        sftp.chmod(path, mode)  # the umask took bits off the mode that mkdir was given


def _is_dir(sftp: paramiko.SFTPClient, path: str) -> bool:
    try:
        return stat.S_ISDIR(sftp.stat(path).st_mode or 0)
    except FileNotFoundError:
        return False
