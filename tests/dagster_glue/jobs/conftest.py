"""One local Ray runtime for all tests here, a proxy before it that can be cut, and assets."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_glue.clusters.base import JobsConnection
from dagster_glue.clusters.local import LocalCluster
from dagster_glue.jobs.options import RunOptions
from dagster_glue.jobs.payload import plan_payload
from dagster_glue.jobs.run import FinishedJob, run_job
from slurm_provider.fleet.ledger import Node
from slurm_provider.transport import Completed, LocalTransport, Transport, TransportError
from tests.dagster_glue.local_runtime import end_unless_used


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    work_dir = str(tmp_path_factory.mktemp("runs"))
    cluster = LocalCluster.start(
        num_cpus=2, num_gpus=0, object_store_memory_mb=80, work_dir=work_dir, idle_grace_s=5
    )
    yield cluster
    end_unless_used(cluster)


@pytest.fixture
def cluster(runtime: LocalCluster) -> Iterator[CuttableCluster]:
    """The runtime behind a proxy and a transport that can both be cut."""
    with CuttableCluster(runtime) as made:
        yield made


@pytest.fixture
def unshared(runtime: LocalCluster) -> Iterator[CuttableCluster]:
    """The same, with no file system in common."""
    with CuttableCluster(runtime, is_shared=False) as made:
        yield made


class CuttableCluster:
    def __init__(self, inner: LocalCluster, *, is_shared: bool = True) -> None:
        self._inner = inner
        self._is_shared = is_shared
        connection = inner.open_jobs()
        host, _, port = connection.address.removeprefix("http://").partition(":")
        self._connection = connection
        self.proxy = Proxy(host, int(port))
        self._transport = CuttableTransport(self.proxy)

    cluster_id = "test-cluster"
    directory = None

    def __enter__(self) -> CuttableCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.close()

    def open_jobs(self) -> JobsConnection:
        if self.proxy.is_cut:
            raise TransportError("the tunnel cannot be opened", transient=True)
        return dataclasses.replace(self._connection, address=self.proxy.address)

    def transport(self) -> Transport:
        return self._transport

    def work_dir(self) -> str | None:
        return self._inner.work_dir() if self._is_shared else None

    def evidence(self) -> list[Node]:
        return []


class CuttableTransport(LocalTransport):
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def run(
        self, argv: Sequence[str], *, timeout_s: float, stdin: bytes | None = None
    ) -> Completed:
        if self._proxy.is_cut:
            raise TransportError("the connection is cut", transient=True)
        return super().run(argv, timeout_s=timeout_s, stdin=stdin)


class Proxy:
    """Passes TCP connections on, until it is cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.is_cut = False
        self.swallow_answer_to: bytes | None = None
        """Cut the connection of the next request that contains this, instead of answering."""
        self.swallowed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        with self._lock:
            self.is_cut = True
            for side in self._open:
                _reset(side)
            self._open.clear()

    def mend(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_cut:
                _reset(client)
                continue
            server = socket.create_connection(self._target)
            with self._lock:
                self._open |= {client, server}
            swallow = threading.Event()
            for source, target, is_request in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._carry, args=(source, target, is_request, swallow), daemon=True
                ).start()

    def _carry(
        self,
        source: socket.socket,
        target: socket.socket,
        is_request: bool,
        swallow: threading.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_request and self.swallow_answer_to and self.swallow_answer_to in data:
                    self.swallow_answer_to = None
                    swallow.set()
                if not is_request and swallow.is_set():
                    self.swallowed += 1
                    _reset(target)
                    return
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def _reset(side: socket.socket) -> None:
    with contextlib.suppress(OSError):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        side.shutdown(socket.SHUT_RDWR)
        side.close()


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """Writes a payload and returns its path."""

    def write(code: str, name: str = "payload.py") -> str:
        path = tmp_path / name
        path.write_text(textwrap.dedent(code))
        return str(path)

    return write


@dataclasses.dataclass
class Materialized:
    result: dg.ExecuteInProcessResult
    jobs: list[FinishedJob]
    messages: list[Any]

    @property
    def job(self) -> FinishedJob:
        return self.jobs[-1]

    @property
    def failure(self) -> str:
        event = next(e for e in self.result.all_events if e.is_step_failure)
        failure = event.step_failure_data.user_failure_data
        return (failure.description if failure else None) or str(event.step_failure_data.error)


@pytest.fixture
def materialize() -> Callable[..., Materialized]:
    return _materialize


@pytest.fixture
def wait_for() -> Callable[..., Any]:
    return _wait_for


def _materialize(
    cluster: Any,
    payload_path: str,
    *,
    retries: int = 0,
    options: RunOptions | None = None,
    extras: dict[str, Any] | None = None,
    instance: dg.DagsterInstance | None = None,
    before: Callable[[dg.AssetExecutionContext], None] = lambda context: None,
    after: Callable[[FinishedJob], None] = lambda finished: None,
    **payload: Any,
) -> Materialized:
    """Run an asset with this payload in this process."""
    jobs: list[FinishedJob] = []
    messages: list[Any] = []

    @dg.asset(name="trained", retry_policy=dg.RetryPolicy(max_retries=retries) if retries else None)
    def trained(context):  # type: ignore[no-untyped-def]  # Dagster reads the annotation itself
        before(context)
        finished = run_job(
            cluster,
            context=context,
            payload=plan_payload(payload_path, **payload),
            extras=extras,
            options=options,
        )
        jobs.append(finished)
        after(finished)
        failure = finished.failure()
        if failure is not None:
            raise failure
        messages.extend(finished.session.get_custom_messages())
        yield from finished.session.get_results()

    result = dg.materialize([trained], raise_on_error=False, instance=instance)
    return Materialized(result, jobs, messages)


def _wait_for(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")
