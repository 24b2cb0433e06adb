"""A command at the other end of an SSH channel."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

import paramiko

from slurm_provider.transport.base import (
    ByteReader,
    ByteWriter,
    CommandNotFound,
    CommandTimeout,
    Completed,
    TransportError,
)
from slurm_provider.transport.quote import NOT_FOUND, OUTPUT_STARTS, PROCESS_ID
from slurm_provider.transport.ssh.connection import Session
from slurm_provider.transport.ssh.opening import lost
from slurm_provider.transport.tail import TAIL_BYTES, Tail

_CHUNK_BYTES = 32 * 1024  # SSH's usual packet
_PROCESS_ID_WAIT_S = 10.0
_TERMINATED = 128 + 15  # as shells and the local side report SIGTERM


def start(session: Session, line: str, label: str, name: str) -> None:
    """Ask the server to run ``line``. Raises TransportError when the answer is lost or no."""
    channel = session.channel
    try:
        channel.exec_command(line)
    except (paramiko.SSHException, EOFError, OSError) as error:
        if _is_up(channel):
            raise TransportError(
                f"{label} refuses to run commands ({error}): the account may be restricted there"
            ) from error
        raise lost(label, f"{name!r} was started", error) from error


def run_to_end(
    session: Session,
    line: str,
    argv: tuple[str, ...],
    *,
    label: str,
    timeout_s: float,
    stdin: bytes | None,
) -> Completed:
    """Run ``line`` and collect its output, both streams read at once at any size."""
    channel = session.channel
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        session.close()  # wakes up every read, write and wait below

    watchdog = threading.Timer(timeout_s, expire)
    watchdog.daemon = True
    watchdog.start()
    try:
        start(session, line, label, argv[0])
        if stdin:
            feeder = threading.Thread(target=_feed, args=(channel, stdin), daemon=True)
            feeder.start()
        else:
            ChannelWriter(channel).close()
        errors: list[bytes] = []
        drain = threading.Thread(
            target=lambda: errors.extend(iter(lambda: channel.recv_stderr(_CHUNK_BYTES), b"")),
            daemon=True,
        )
        drain.start()
        output = b"".join(iter(lambda: channel.recv(_CHUNK_BYTES), b""))
        drain.join()
        returncode = final_exit_code(channel, label, argv[0])
    except (TransportError, paramiko.SSHException, OSError, EOFError) as error:
        if not expired.is_set():
            if isinstance(error, TransportError):
                raise
            raise lost(label, f"{argv[0]!r} ran", error) from error
    finally:
        watchdog.cancel()
    if expired.is_set():  # even with an exit code: something still held the output open
        raise CommandTimeout(
            f"{argv[0]!r} did not end within {timeout_s:g} s on {label}; it may "
            "still be running for a moment, and whether it had its effect is unknown",
            transient=True,
        )
    stderr = b"".join(errors).decode("utf-8", "replace")
    raise_if_not_found(returncode, stderr, label)
    return Completed(argv, returncode, _after_marker(output).decode("utf-8", "replace"), stderr)


def final_exit_code(channel: paramiko.Channel, label: str, name: str) -> int:
    """The exit code of a command whose output has been read to its end.

    A dropped connection looks like an end, too, even after the exit code has arrived. Only the
    end that the server itself announced is one: a shortened list must not pass for a whole one.

    Raises TransportError (transient) when there is no exit code or that end is missing.
    """
    channel.status_event.wait()
    if channel.eof_received and channel.exit_status >= 0:
        return channel.exit_status
    if channel.eof_received and _is_up(channel):
        raise TransportError(
            f"{name!r} on {label} was ended by a signal and has no exit code", transient=True
        )
    raise lost(label, f"{name!r} ran", None)


def raise_if_not_found(returncode: int, stderr: str, label: str) -> None:
    """Turn our start line's complaint into CommandNotFound."""
    complaint = next((ln for ln in stderr.splitlines() if ln.startswith(NOT_FOUND)), None)
    if returncode == 127 and complaint is not None:
        what = complaint.removeprefix(f"{NOT_FOUND}: ")
        raise CommandNotFound(
            f"command not found on {label}: {what}. Extend PATH there for shells that are not "
            "login shells (in ~/.bashrc, say)"
        )


class SshProcess:
    """See :class:`.base.Process`. Its line was made by :func:`.quote.line_for_popen`."""

    def __init__(
        self, session: Session, label: str, name: str, send_sigterm: Callable[[int], None]
    ) -> None:
        """``send_sigterm`` reaches a process group over there, by its id."""
        self._session = session
        self._channel = session.channel
        self._label = label
        self._name = name
        self._send_sigterm = send_sigterm
        self._was_terminated = False
        self._process_id: Future[int | None] = Future()
        self._stdin = ChannelWriter(self._channel)
        self._stdout = _ChannelReader(self._channel)
        self._tail = Tail(self._read_stderr, self._over)

    @property
    def stdin(self) -> ByteWriter:
        return self._stdin

    @property
    def stdout(self) -> ByteReader:
        return self._stdout

    @property
    def stderr_tail(self) -> str:
        return self._tail.text()

    def wait(self, timeout_s: float | None = None) -> int:
        if not self._channel.status_event.wait(timeout_s):
            raise CommandTimeout(
                f"{self._name!r} still runs on {self._label} after {timeout_s:g} s",
                transient=True,
            )
        self._tail.join(1.0)  # something may hold stderr open for longer
        returncode = self._channel.exit_status
        if returncode < 0 and self._was_terminated and self._channel.eof_received:
            return _TERMINATED
        if returncode < 0 or (self._channel.closed and not self._channel.eof_received):
            return final_exit_code(self._channel, self._label, self._name)
        raise_if_not_found(returncode, self._tail.text(), self._label)
        return returncode

    def terminate(self) -> None:
        # Not by SSH's own signal request: sshd refuses it for root, paramiko cannot send it.
        # Closing the channel alone would let a command live on that neither reads nor writes.
        if self._channel.status_event.is_set():
            return
        self._was_terminated = True
        try:
            process_id = self._process_id.result(_PROCESS_ID_WAIT_S)
            if process_id is not None:
                self._send_sigterm(process_id)
        except (TransportError, FutureTimeout):
            self._session.close()

    def _read_stderr(self, size: int) -> bytes:
        chunk = self._channel.recv_stderr(size)
        if self._process_id.done():
            return chunk
        seen = chunk
        while chunk and len(seen) < TAIL_BYTES:
            before, marker, rest = seen.partition(PROCESS_ID.encode())
            number, line_end, after = rest.partition(b"\n")
            if marker and line_end:
                self._process_id.set_result(int(number))
                return before + after or self._channel.recv_stderr(size)
            chunk = self._channel.recv_stderr(size)
            seen += chunk
        self._process_id.set_result(None)
        return seen

    def _over(self) -> None:
        """The end of stderr usually is the end; a command may close it early and go on."""
        self._channel.status_event.wait()
        self._session.close()


class ChannelWriter:
    """The standard input of a command. Raises OSError, as a pipe does, when nobody reads it."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def write(self, data: bytes) -> int:
        try:
            for start_at in range(0, len(data), _CHUNK_BYTES):  # sendall copies all that is left
                self._channel.sendall(data[start_at : start_at + _CHUNK_BYTES])
        except (paramiko.SSHException, EOFError) as error:
            raise BrokenPipeError(f"the connection dropped ({error})") from error
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        with contextlib.suppress(paramiko.SSHException, EOFError):  # it has ended anyway
            self._channel.shutdown_write()


class _ChannelReader:
    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def read1(self, size: int) -> bytes:
        return self._channel.recv(size)

    def read(self, size: int = -1) -> bytes:
        chunks = []
        while size and (chunk := self._channel.recv(size if size > 0 else _CHUNK_BYTES)):
            chunks.append(chunk)
            size -= len(chunk) if size > 0 else 0
        return b"".join(chunks)


def _is_up(channel: paramiko.Channel) -> bool:
    """Whether the connection lives. paramiko tells its channels of the end before it is marked."""
    client = channel.get_transport()
    client.join(0.2)
    return client.is_active()


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    stdin = ChannelWriter(channel)
    with contextlib.suppress(OSError):  # the command may end without reading it all
        stdin.write(data)
        stdin.close()


def _after_marker(output: bytes) -> bytes:
    """What the command printed: a shell profile's own words stand before the marker."""
    _, marker, rest = output.partition(f"{OUTPUT_STARTS}\n".encode())
    return rest if marker else output
