"""Reach a TCP port on a compute host's loopback over the pipes of one command.

Compute hosts run no sshd that users may enter, but ``srun --overlap`` starts a command in a job
and carries its input and output. With :mod:`.relay` as that command, a port here leads to a port
there, for as many connections at once as one likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from concurrent.futures import Future
from types import TracebackType

from slurm_provider.transport.base import ConnectFailed, Process, TransportError
from slurm_provider.transport.relay import FRAME_BYTES, GREETING, Multiplexer, ProtocolError

_NOISE_BYTES = 64 * 1024  # so much may be printed before the relay's greeting
_CLOSE_S = 3.0


class Tunnel:
    """Listens here and passes every connection on to the relay behind ``process``.

    It listens as soon as it is made; connections wait until the relay has started. Any user of
    this host can connect to the port, so the service behind it has to ask for its own password or
    token. When the relay ends, open connections are closed, new ones are refused and ``alive``
    turns false.
    """

    def __init__(
        self, process: Process, listen_host: str = "127.0.0.1", listen_port: int = 0
    ) -> None:
        """Take over ``process``. Port 0 means a free one; see :attr:`port`.

        Raises TransportError when the port is taken.
        """
        try:
            self._listener = socket.create_server((listen_host, listen_port), backlog=128)
        except OSError as error:
            raise TransportError(
                f"cannot listen on {listen_host}:{listen_port} ({error.strerror or error}): "
                "choose another port, or 0 for a free one"
            ) from error
        self._process = process
        self._port: int = self._listener.getsockname()[1]
        self._greeted = threading.Event()
        self._closing = threading.Event()  # set before the port is free for somebody else
        self._over = threading.Event()
        self._failure = ""
        self._serving: Future[tuple[asyncio.AbstractEventLoop, Multiplexer]] = Future()
        self._thread = threading.Thread(target=self._serve, name="tunnel", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    @property
    def alive(self) -> bool:
        """False once the relay has ended or the tunnel was closed; before its port is free."""
        return not self._closing.is_set()

    @property
    def stderr_tail(self) -> str:
        """What the command and the relay said on standard error last."""
        return self._process.stderr_tail

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the relay has answered for the first time.

        Raises ConnectFailed, with what the command said, if it ends or stays silent instead.
        """
        deadline = time.monotonic() + timeout_s
        while not self._greeted.wait(0.05):
            if self._over.is_set() and not self._greeted.is_set():
                raise ConnectFailed(f"the tunnel's far end did not start{self._why()}")
            if time.monotonic() > deadline:
                raise ConnectFailed(
                    f"the tunnel's far end is silent after {timeout_s:g} s{self._why()}",
                    transient=True,
                )

    def close(self) -> None:
        """Close all connections and end the command. Harmless when repeated."""
        with contextlib.suppress(RuntimeError, OSError):  # the loop has ended, or never started
            loop, multiplexer = self._serving.result()
            loop.call_soon_threadsafe(multiplexer.stop)
        self._thread.join(_CLOSE_S)

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _why(self) -> str:
        said = " / ".join(self._process.stderr_tail.strip().splitlines()[-5:])
        return f": {said or self._failure}" if said or self._failure else ""

    def _serve(self) -> None:
        try:
            asyncio.run(self._carry_all())
        except (OSError, ValueError, ProtocolError) as error:
            self._failure = str(error)
            if not self._serving.done():
                self._serving.set_exception(OSError(self._failure))
        finally:
            self._closing.set()
            self._listener.close()
            self._end_process()
            self._over.set()

    async def _carry_all(self) -> None:
        multiplexer = Multiplexer(self._read, self._write)
        self._serving.set_result((asyncio.get_running_loop(), multiplexer))

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await multiplexer.carry(multiplexer.open(), reader, writer)

        server = await asyncio.start_server(accepted, sock=self._listener, limit=2 * FRAME_BYTES)
        try:
            await multiplexer.run()
        finally:
            self._closing.set()
            server.close()

    def _read(self, size: int) -> bytes:
        chunk = self._process.stdout.read1(size)
        if self._greeted.is_set():
            return chunk
        seen = b""
        while chunk:
            seen += chunk
            _, greeting, rest = seen.partition(GREETING)
            if greeting:
                self._greeted.set()
                return rest or self._process.stdout.read1(size)
            if len(seen) > _NOISE_BYTES:
                raise OSError(f"the command's output is not a relay's: {seen[:200]!r}")
            chunk = self._process.stdout.read1(size)
        return b""

    def _write(self, data: bytes) -> None:
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _end_process(self) -> None:
        """End of input tells the relay to go; a command that does not is asked to."""
        threading.Thread(target=self._close_stdin, name="tunnel-close", daemon=True).start()
        try:
            self._process.wait(_CLOSE_S / 2)
        except TransportError:
            self._process.terminate()

    def _close_stdin(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
