"""Many TCP connections over one pair of pipes: the protocol, and the far half of a tunnel.

The far half (the command ``relay HOST PORT`` of the code archive) speaks the protocol below on its
standard input and output and opens one TCP connection to ``HOST:PORT``, on its own host, for each
connection that the near half (:mod:`.tunnel`) announces.

A frame is ``connection id (u32) | kind (u8) | payload length (u32) | payload``, big-endian:

========  =====================  ====================================================
OPEN      near half only         a new connection
DATA      at most 64 KiB         bytes of a connection
EOF       nothing                the sender's half of the connection is finished
RESET     nothing                the connection is broken, both ways
WINDOW    u32                    so many more bytes of a connection may be sent
========  =====================  ====================================================

Each half may have ``WINDOW_BYTES`` of a connection under way that the other has not passed on. So
the pipe is always read at once, one slow connection holds up no other, and memory is bounded by
``WINDOW_BYTES`` for each connection and direction. Before its first frame the far half writes
``GREETING``; whatever a shell profile or a launcher printed before that is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import struct
import sys
import threading
from collections.abc import Callable

from slurm_provider.listener import open_to_ours

GREETING = b"\0ray-slurm-tunnel-1\n"
WINDOW_BYTES = 1024 * 1024
FRAME_BYTES = 64 * 1024
PIPE_READ_BYTES = 256 * 1024
PIPE_BACKLOG_BYTES = 1024 * 1024  # above this, connections are not read until the pipe has taken it

_HEADER = struct.Struct("!IBI")
_CREDIT = struct.Struct("!I")
_OPEN, _DATA, _EOF, _RESET, _WINDOW = range(1, 6)


class ProtocolError(Exception):
    """The other half sent what this one does not understand."""


class _Stream:
    """One connection as the multiplexer sees it."""

    def __init__(self) -> None:
        self.credit = WINDOW_BYTES
        self.credit_grown = asyncio.Event()
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.incoming_bytes = 0
        self.task: asyncio.Task[None] | None = None


class Multiplexer:
    """One half of the tunnel, on an asyncio loop.

    The pipes are read and written with blocking calls in two daemon threads: that works for files,
    sockets and SSH channels alike and puts no descriptor of anybody into non-blocking mode.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        write: Callable[[bytes], object],
        on_open: Callable[[int], None] | None = None,
    ) -> None:
        """``read(n)`` returns ``b""`` at the end; ``on_open`` is called for an OPEN frame."""
        self._read = read
        self._write = write
        self._on_open = on_open
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, _Stream] = {}
        self._last_id = 0
        self._unparsed = bytearray()
        self._backlog: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._backlog_bytes = 0
        self._backlog_fell = asyncio.Event()
        self._ended: asyncio.Future[None] = self._loop.create_future()

    async def run(self) -> None:
        """Carry everything until the pipe ends, then break every connection.

        Raises ProtocolError or the OSError that ended the pipe, if it was not a plain end.
        """
        threading.Thread(target=self._read_pipe, name="tunnel-read", daemon=True).start()
        threading.Thread(target=self._write_pipe, name="tunnel-write", daemon=True).start()
        try:
            await self._ended
        finally:
            self._backlog.put(None)
            tasks = [stream.task for stream in self._streams.values() if stream.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """End :meth:`run` as if the pipe had ended."""
        self._end(None)

    def send_raw(self, data: bytes) -> None:
        """Queue bytes for the pipe outside any frame."""
        self._backlog_bytes += len(data)
        self._backlog.put(data)

    def open(self) -> int:
        """Announce a new connection and return its id."""
        self._last_id += 1
        self._streams[self._last_id] = _Stream()
        self._send(self._last_id, _OPEN)
        return self._last_id

    def reset(self, connection_id: int) -> None:
        """Give up a connection that :meth:`carry` was never called for."""
        if self._streams.pop(connection_id, None) is not None:
            self._send(connection_id, _RESET)

    async def carry(
        self, connection_id: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass bytes both ways between a socket and the pipe until both halves are finished."""
        stream = self._streams.get(connection_id)
        if stream is None:  # the other half broke it in the meantime
            writer.transport.abort()
            return
        stream.task = asyncio.current_task()
        halves = [
            asyncio.ensure_future(self._socket_to_pipe(connection_id, stream, reader)),
            asyncio.ensure_future(self._pipe_to_socket(connection_id, stream, writer)),
        ]
        try:
            await asyncio.gather(*halves)
        except OSError:
            self.reset(connection_id)
            writer.transport.abort()
        except asyncio.CancelledError:  # RESET from the other half, or the end of the tunnel
            writer.transport.abort()
        else:
            writer.close()
        finally:
            self._streams.pop(connection_id, None)
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)

    async def _socket_to_pipe(
        self, connection_id: int, stream: _Stream, reader: asyncio.StreamReader
    ) -> None:
        while True:
            while stream.credit == 0:
                stream.credit_grown.clear()
                await stream.credit_grown.wait()
            chunk = await reader.read(min(FRAME_BYTES, stream.credit))
            if not chunk:
                self._send(connection_id, _EOF)
                return
            stream.credit -= len(chunk)
            self._send(connection_id, _DATA, chunk)
            while self._backlog_bytes > PIPE_BACKLOG_BYTES:
                self._backlog_fell.clear()
                await self._backlog_fell.wait()

    async def _pipe_to_socket(
        self, connection_id: int, stream: _Stream, writer: asyncio.StreamWriter
    ) -> None:
        passed_on = 0
        while (chunk := await stream.incoming.get()) is not None:
            writer.write(chunk)
            await writer.drain()
            stream.incoming_bytes -= len(chunk)
            passed_on += len(chunk)
            if passed_on >= WINDOW_BYTES // 4:
                self._send(connection_id, _WINDOW, _CREDIT.pack(passed_on))
                passed_on = 0
        if writer.can_write_eof():
            writer.write_eof()

    def _send(self, connection_id: int, kind: int, payload: bytes = b"") -> None:
        self.send_raw(_HEADER.pack(connection_id, kind, len(payload)) + payload)

    def _write_pipe(self) -> None:
        try:
            while (data := self._backlog.get()) is not None:
                self._write(data)
                self._in_loop(self._written, len(data))
        except (OSError, ValueError) as error:
            self._in_loop(self._end, error)

    def _written(self, count: int) -> None:
        self._backlog_bytes -= count
        if self._backlog_bytes <= PIPE_BACKLOG_BYTES:
            self._backlog_fell.set()

    def _read_pipe(self) -> None:
        error: Exception | None = None
        try:
            while chunk := self._read(PIPE_READ_BYTES):
                self._in_loop(self._feed, chunk)
        except (OSError, ValueError) as failure:
            error = failure
        self._in_loop(self._end, error)

    def _in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(function, *arguments)

    def _end(self, error: Exception | None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    def _feed(self, chunk: bytes) -> None:
        self._unparsed += chunk
        at = 0
        try:
            while at + _HEADER.size <= len(self._unparsed):
                connection_id, kind, length = _HEADER.unpack_from(self._unparsed, at)
                if length > FRAME_BYTES:
                    raise ProtocolError(f"a frame of {length} bytes")
                end = at + _HEADER.size + length
                if end > len(self._unparsed):
                    break
                self._handle(connection_id, kind, bytes(self._unparsed[at + _HEADER.size : end]))
                at = end
        except ProtocolError as error:
            self._end(error)
        del self._unparsed[:at]

    def _handle(self, connection_id: int, kind: int, payload: bytes) -> None:
        if kind == _OPEN and self._on_open is not None:
            self._streams[connection_id] = _Stream()
            self._on_open(connection_id)
            return
        if kind not in (_DATA, _EOF, _RESET, _WINDOW):
            raise ProtocolError(f"a frame of kind {kind}")
        stream = self._streams.get(connection_id)
        if stream is None:
            return  # late frames of a connection that is over here
        if kind == _DATA:
            stream.incoming_bytes += len(payload)
            if stream.incoming_bytes > WINDOW_BYTES:
                raise ProtocolError("more data than the window allows")
            stream.incoming.put_nowait(payload)
        elif kind == _EOF:
            stream.incoming.put_nowait(None)
        elif kind == _WINDOW:
            stream.credit += _CREDIT.unpack(payload)[0]
            stream.credit_grown.set()
        else:
            del self._streams[connection_id]
            if stream.task is not None:
                stream.task.cancel()


def relay_main(host: str, port: int, stdin_fd: int = 0, stdout_fd: int = 1) -> int:
    """Be the far half: connect to ``host:port`` for each connection until the input ends.

    Returns an exit code: 0 when the near half closed the tunnel, 1 when the pipe broke.
    """
    return asyncio.run(_relay(host, port, stdin_fd, stdout_fd))


async def _relay(host: str, port: int, stdin_fd: int, stdout_fd: int) -> int:
    connecting: set[asyncio.Task[None]] = set()

    async def connect(connection_id: int) -> None:
        try:
            reader, writer = await open_to_ours(host, port, limit=2 * FRAME_BYTES)
        except OSError as error:
            print(f"relay: {host}:{port}: {error}", file=sys.stderr, flush=True)
            mux.reset(connection_id)
            return
        await mux.carry(connection_id, reader, writer)

    def on_open(connection_id: int) -> None:
        task = asyncio.ensure_future(connect(connection_id))
        connecting.add(task)
        task.add_done_callback(connecting.discard)

    mux = Multiplexer(
        lambda size: os.read(stdin_fd, size),
        lambda data: _write_all(stdout_fd, data),
        on_open,
    )
    mux.send_raw(GREETING)
    try:
        await mux.run()
    except (OSError, ProtocolError) as error:
        print(f"relay: the pipe to the near half broke: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
