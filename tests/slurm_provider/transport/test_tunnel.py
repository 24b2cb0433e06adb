"""The tunnel with a real relay process and real servers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slurm_provider.transport import ConnectFailed, LocalTransport, Process, TransportError, Tunnel
from slurm_provider.transport.relay import WINDOW_BYTES
from tests.slurm_provider.transport.real_sshd import eventually, free_port
from tests.stranger import Stranger, listening

_ROOT = Path(__file__).parents[3]
_PATH = f"import sys; sys.path.insert(0, {str(_ROOT)!r})"
_MAIN = "from slurm_provider.agent.main import main; sys.exit(main(sys.argv[1:]))"
RELAY = [sys.executable, "-c", f"{_PATH}; {_MAIN}", "relay"]


class Server:
    """Runs ``handle`` in a thread for each connection."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self._handle = handle
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            self._handle(connection)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def read_all(connection: socket.socket) -> bytes:
    chunks = []
    while chunk := connection.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], Server]]:
    started: list[Server] = []

    def start(handle: Callable[[socket.socket], None]) -> Server:
        started.append(Server(handle))
        return started[-1]

    try:
        yield start
    finally:
        for server in started:
            server.close()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Stranger]:
    with listening(tmp_path) as found:
        yield found


@pytest.fixture
def open_tunnel() -> Iterator[Callable[..., tuple[Tunnel, Process]]]:
    opened: list[tuple[Tunnel, Process]] = []

    def start(port: int, *, before: str = "") -> tuple[Tunnel, Process]:
        command = f"{before} exec {shlex.join(RELAY)} 127.0.0.1 {port}"
        process = LocalTransport().popen(["sh", "-c", command])
        opened.append((Tunnel(process), process))
        return opened[-1]

    try:
        yield start
    finally:
        for tunnel, process in opened:
            tunnel.close()
            process.terminate()
            process.wait(10)


Serve = Callable[[Callable[[socket.socket], None]], Server]
OpenTunnel = Callable[..., tuple[Tunnel, Process]]


def connect(tunnel: Tunnel) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", tunnel.port), 10)
    connection.settimeout(30)
    return connection


def relay_pid(process: Process) -> int:
    return int(process._child.pid)  # type: ignore[attr-defined]


def test_fifty_connections_at_once_carry_fifty_megabytes_unmixed(
    serve: Serve, open_tunnel: OpenTunnel
) -> None:
    tunnel, _ = open_tunnel(serve(echo).port)

    def exchange(_: int) -> bool:
        data = os.urandom(1_000_000)
        with connect(tunnel) as connection:

            def send() -> None:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            received = read_all(connection)
            sender.join()
        return hashlib.sha1(received).digest() == hashlib.sha1(data).digest()

    with ThreadPoolExecutor(50) as threads:
        assert all(threads.map(exchange, range(50)))
    assert tunnel.alive


def test_a_half_closed_connection_still_carries_the_answer(
    serve: Serve, open_tunnel: OpenTunnel
) -> None:
    def answer_at_the_end(connection: socket.socket) -> None:
        connection.sendall(b"got %d" % len(read_all(connection)))

    tunnel, _ = open_tunnel(serve(answer_at_the_end).port)
    with connect(tunnel) as connection:
        connection.sendall(b"x" * 100_000)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"got 100000"


def test_a_server_that_closes_first_can_still_be_written_to(
    serve: Serve, open_tunnel: OpenTunnel
) -> None:
    received: list[bytes] = []

    def close_first(connection: socket.socket) -> None:
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        received.append(read_all(connection))

    tunnel, _ = open_tunnel(serve(close_first).port)
    with connect(tunnel) as connection:
        assert read_all(connection) == b"bye"
        connection.sendall(b"still here")
    eventually(lambda: received == [b"still here"])


def test_one_connection_that_nobody_reads_holds_up_no_other(
    serve: Serve, open_tunnel: OpenTunnel
) -> None:
    stop = threading.Event()

    def flood_or_echo(connection: socket.socket) -> None:
        if connection.recv(1) == b"f":
            while not stop.is_set():
                try:
                    connection.sendall(b"f" * 65536)
                except OSError:
                    return
        echo(connection)

    tunnel, _ = open_tunnel(serve(flood_or_echo).port)
    try:
        with connect(tunnel) as flooded, connect(tunnel) as other:
            flooded.sendall(b"f")
            other.sendall(b"e")
            for _ in range(50):
                other.sendall(b"x" * 10_000)
                received = 0
                while received < 10_000:
                    received += len(other.recv(65536))
            assert len(flooded.recv(WINDOW_BYTES)) > 0
    finally:
        stop.set()


def test_a_server_that_nobody_feeds_from_stops_the_sender_not_the_memory(
    serve: Serve, open_tunnel: OpenTunnel
) -> None:
    stop = threading.Event()

    def read_nothing(_: socket.socket) -> None:
        stop.wait(30)

    tunnel, _process = open_tunnel(serve(read_nothing).port)
    sent = 0
    with connect(tunnel) as connection:
        connection.settimeout(1)
        try:
            with pytest.raises(TimeoutError):
                while sent < 200_000_000:
                    sent += connection.send(b"x" * 65536)
        finally:
            stop.set()
    assert WINDOW_BYTES < sent < 50_000_000


def test_a_port_where_nobody_listens_closes_the_connection_and_says_why(
    open_tunnel: OpenTunnel,
) -> None:
    port = free_port()
    tunnel, _ = open_tunnel(port)
    with connect(tunnel) as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(10) == b""
    eventually(lambda: f"127.0.0.1:{port}" in tunnel.stderr_tail)
    assert tunnel.alive


def test_a_connection_that_the_server_resets_is_reset_here(
    serve: Serve, open_tunnel: OpenTunnel
) -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        no_linger = b"\1\0\0\0\0\0\0\0"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)

    tunnel, _ = open_tunnel(serve(reset).port)
    with connect(tunnel) as connection:
        connection.sendall(b"x")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(10) == b""
    with connect(tunnel):
        assert tunnel.alive


def test_a_killed_relay_closes_what_is_open_and_refuses_what_comes(
    serve: Serve, open_tunnel: OpenTunnel
) -> None:
    tunnel, process = open_tunnel(serve(echo).port, before="echo last words >&2;")
    with connect(tunnel) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        os.kill(relay_pid(process), signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    eventually(lambda: not tunnel.alive)
    assert "last words" in tunnel.stderr_tail
    with pytest.raises(ConnectionRefusedError):
        connect(tunnel)


def test_closing_ends_the_relay_by_itself(serve: Serve, open_tunnel: OpenTunnel) -> None:
    tunnel, process = open_tunnel(serve(echo).port)
    tunnel.wait_ready(10)
    with connect(tunnel) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        tunnel.close()
        assert not tunnel.alive
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert process.wait(10) == 0
    tunnel.close()


def test_closing_ends_a_command_that_ignores_the_end_of_its_input(serve: Serve) -> None:
    process = LocalTransport().popen(["sleep", "60"])
    tunnel = Tunnel(process)
    begun = time.monotonic()
    tunnel.close()
    assert process.wait(10) == 143
    assert time.monotonic() - begun < 10


def test_what_is_printed_before_the_relay_starts_does_no_harm(
    serve: Serve, open_tunnel: OpenTunnel
) -> None:
    tunnel, _ = open_tunnel(serve(echo).port, before="echo loading modules; sleep 0.2; echo done;")
    with connect(tunnel) as connection:
        connection.sendall(b"early")
        assert connection.recv(10) == b"early"


def test_a_command_that_is_no_relay_is_told_with_its_last_words() -> None:
    process = LocalTransport().popen(["sh", "-c", "echo srun: error: Invalid job id >&2; exit 1"])
    with Tunnel(process) as tunnel, pytest.raises(ConnectFailed, match="Invalid job id"):
        tunnel.wait_ready(10)


def test_a_command_that_stays_silent_is_not_waited_for_without_end() -> None:
    process = LocalTransport().popen(["sleep", "60"])
    with Tunnel(process) as tunnel, pytest.raises(ConnectFailed, match=r"silent after 0\.3 s"):
        tunnel.wait_ready(0.3)
    assert process.wait(10) == 143


def test_endless_output_that_is_no_relay_s_is_cut_off() -> None:
    process = LocalTransport().popen(["yes"])
    with Tunnel(process) as tunnel:
        eventually(lambda: not tunnel.alive)
        with pytest.raises(ConnectFailed, match="not a relay's"):
            tunnel.wait_ready(1)


def test_rubbish_after_the_greeting_ends_the_tunnel() -> None:
    script = "printf '\\0ray-slurm-tunnel-1\\n'; head -c 100000 /dev/zero | tr '\\0' x; exec cat"
    process = LocalTransport().popen(["sh", "-c", script])
    with Tunnel(process) as tunnel:
        eventually(lambda: not tunnel.alive)
    assert process.wait(10) == 0


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = LocalTransport().popen(["cat"])
        try:
            with pytest.raises(TransportError, match="choose another port"):
                Tunnel(process, listen_port=taken.getsockname()[1])
        finally:
            process.stdin.close()
            assert process.wait(10) == 0


def test_a_port_that_another_user_listens_on_gets_nothing(
    open_tunnel: Callable[..., tuple[Tunnel, Process]], stranger: Stranger
) -> None:
    tunnel, process = open_tunnel(stranger.port)
    with socket.create_connection(("127.0.0.1", tunnel.port)) as client:
        client.sendall(b"Authorization: Bearer secret")
        assert client.recv(100) == b""
    eventually(lambda: f"port {stranger.port} on" in process.stderr_tail, 10)
    assert f"belongs to another user (uid {stranger.uid})" in process.stderr_tail
    assert stranger.received() == b""


def test_a_tunnel_is_over_before_its_port_is_free() -> None:
    """With a command that lingers after the relay's end, as srun does."""
    process = LocalTransport().popen(["sh", "-c", "exec >&-; sleep 60"])
    tunnel = Tunnel(process)
    eventually(lambda: can_be_listened_on(tunnel.port), 10)
    assert not tunnel.alive
    tunnel.close()


def can_be_listened_on(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
