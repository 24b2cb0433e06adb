"""Mode ``local``: one Ray runtime on this machine, started once and reused, without Slurm.

All processes of a user that ask for the same shape share one runtime: the steps of a run, the
runs of a code location. A keeper process of its own starts it and ends it when the last user is
gone, so that killed processes leave nothing behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import IO, Any

import slurm_provider
from dagster_glue.clusters import keeper
from dagster_glue.clusters.base import ClusterGone, JobsConnection
from slurm_provider.fleet.ledger import Node
from slurm_provider.transport import LocalTransport, Transport
from slurm_provider.transport.env import scrubbed
from slurm_provider.worker_waits import WorkerWait

IDLE_GRACE_S = 60.0
_RAY_START = (sys.executable, "-m", "ray.scripts.scripts", "start")
_USER_FOLDER = f"/tmp/dagster-glue-{os.getuid()}"
_POLL_S = 0.05
_LOG_LINES = 20
_PORTS = ("port", "ray-client-server-port", "dashboard-port", "dashboard-agent-listen-port",
          "dashboard-agent-grpc-port", "metrics-export-port", "runtime-env-agent-port",
          "autoscaler-metrics")  # fmt: skip

# Shared locks of this process, by folder: held until it ends.
_held: dict[str, IO[str]] = {}


class LocalClusterError(RuntimeError):
    """The local Ray runtime could not be started."""


class LocalCluster:
    """A :class:`~dagster_glue.clusters.base.ClusterAccess` on this machine."""

    def __init__(self, home: str, work_dir: str) -> None:
        """Use :meth:`start`."""
        self._home = home
        self._work_dir = work_dir

    @classmethod
    def start(
        cls,
        *,
        num_cpus: int | None = None,
        num_gpus: int | None = None,
        object_store_memory_mb: int | None = None,
        ray_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        work_dir: str | None = None,
        idle_grace_s: float = IDLE_GRACE_S,
    ) -> LocalCluster:
        """Start the runtime, or join the one of this shape that runs.

        It ends ``idle_grace_s`` seconds after the last process that called this has ended, but
        not while a job runs. ``num_cpus`` None means all of this machine. ``work_dir`` is where
        run folders go; default ``~/.cache/dagster_glue/runs``.

        Raises LocalClusterError with the end of Ray's log.
        """
        options = _options(num_cpus, num_gpus, object_store_memory_mb)
        shape = [sys.executable, options, list(ray_args), sorted((env or {}).items()), idle_grace_s]
        key = hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:10]
        home = os.path.join(_user_folder(), key)
        os.makedirs(home, mode=0o700, exist_ok=True)
        _hold(home)
        with open(os.path.join(home, "starting"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # A keeper without a state starts Ray for somebody who was killed, or is clearing up.
            while _keeper_lives(home) and _state(home) is None:
                time.sleep(_POLL_S)
            if _state(home) is None:
                _launch(home, options, ray_args, env or {}, idle_grace_s)
        return cls(home, os.path.abspath(work_dir or _default_runs()))

    @property
    def cluster_id(self) -> str:
        return f"local-{os.path.basename(self._home)}"

    @property
    def directory(self) -> str | None:
        return None

    def open_jobs(self) -> JobsConnection:
        state = _state(self._home)
        if state is None:
            raise ClusterGone(
                f"the local Ray runtime has ended; its log: {os.path.join(self._home, 'ray.log')}"
            )
        with open(os.path.join(self._home, "token")) as file:
            token = file.read().strip()
        return JobsConnection(
            address=state["address"],
            headers={"Authorization": f"Bearer {token}"},
            close=lambda: None,
            is_alive=lambda: True,  # nothing stands between us and the port
        )

    def transport(self) -> Transport:
        return LocalTransport()

    def work_dir(self) -> str | None:
        return self._work_dir

    def evidence(self) -> list[Node]:
        return []

    def worker_waits(self) -> list[WorkerWait]:
        return []

    @property
    def since(self) -> datetime:
        """When it had started, in UTC."""
        path = os.path.join(self._home, "state.json")
        return datetime.fromtimestamp(os.stat(path).st_mtime, timezone.utc)

    def users(self) -> list[str]:
        """The processes that keep it, as ``host:pid``."""
        path = os.path.join(self._home, "users")
        inode = os.stat(path).st_ino
        try:
            with open("/proc/locks") as file:
                locks = [line.split() for line in file]
        except FileNotFoundError:  # not Linux
            return [socket.gethostname()] if _is_locked(path) else []
        # "1: FLOCK ADVISORY READ 1234 08:01:5678 0 EOF"; a waiting one has "->" in between.
        pids = {lock[4] for lock in locks if lock[1:4] == ["FLOCK", "ADVISORY", "READ"]
                and lock[5].rpartition(":")[2] == str(inode)}  # fmt: skip
        return [f"{socket.gethostname()}:{pid}" for pid in sorted(pids, key=int)]

    def stop(self) -> None:
        """End the runtime now, whoever uses it. One that has ended already is fine."""
        state = _state(self._home)
        if state is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(state["keeper"], 15)
        deadline = time.monotonic() + 30.0
        while _keeper_lives(self._home):
            if time.monotonic() > deadline:
                raise LocalClusterError(f"keeper {state['keeper']} of {self._home} does not end")
            time.sleep(_POLL_S)


def local_clusters() -> list[LocalCluster]:
    """Those of this user that run on this machine."""
    if not os.path.isdir(_USER_FOLDER):
        return []
    homes = [os.path.join(_user_folder(), name) for name in sorted(os.listdir(_USER_FOLDER))]
    return [LocalCluster(home, _default_runs()) for home in homes if _state(home) is not None]


def _default_runs() -> str:
    return os.path.join(os.path.expanduser("~"), ".cache", "dagster_glue", "runs")


def _options(num_cpus: int | None, num_gpus: int | None, store_mb: int | None) -> dict[str, str]:
    options = {"num-cpus": num_cpus, "num-gpus": num_gpus}
    chosen = {key: str(value) for key, value in options.items() if value is not None}
    if store_mb is not None:
        chosen["object-store-memory"] = str(store_mb * 1024 * 1024)
    return chosen


def _user_folder() -> str:
    """Short, because a Unix socket's path ends at 107 characters; ours alone, or refused."""
    folder = _USER_FOLDER
    os.makedirs(folder, mode=0o700, exist_ok=True)
    status = os.lstat(folder)
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or os.path.islink(folder):
        raise LocalClusterError(
            f"{folder} belongs to somebody else or others may write to it: remove it"
        )
    return folder


def _hold(home: str) -> None:
    """Be a user of the runtime until this process ends."""
    if home not in _held:
        users = open(os.path.join(home, "users"), "a")
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while a keeper is clearing up
        _held[home] = users


def _state(home: str) -> dict[str, Any] | None:
    """Of the running runtime; None if there is none."""
    if not _keeper_lives(home):
        return None
    try:
        with open(os.path.join(home, "state.json")) as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return None


def _keeper_lives(home: str) -> bool:
    return _is_locked(os.path.join(home, "keeper"), fcntl.LOCK_SH)


def _is_locked(path: str, how: int = fcntl.LOCK_EX) -> bool:
    """Whether somebody's lock is in the way of ours."""
    with open(path, "a") as file:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _launch(
    home: str,
    options: Mapping[str, str],
    ray_args: Sequence[str],
    env: Mapping[str, str],
    idle_grace_s: float,
) -> None:
    token_path = os.path.join(home, "token")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(token_path)
    with open(os.open(token_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    metrics = ports.pop("autoscaler-metrics")
    temp_dir = os.path.join(home, "r")
    named = {argument.partition("=")[0] for argument in ray_args}
    given = {**options, **{name: str(port) for name, port in ports.items()}}
    given |= {"node-ip-address": "127.0.0.1", "dashboard-host": "127.0.0.1", "temp-dir": temp_dir,
              "include-dashboard": "true", "disable-usage-stats": ""}  # fmt: skip
    argv = [*_RAY_START, "--head", "--block"]
    argv += [f"--{k}={v}" if v else f"--{k}" for k, v in given.items() if f"--{k}" not in named]
    spec = {
        "argv": [*argv, *ray_args],
        "address": f"http://127.0.0.1:{ports['dashboard-port']}",
        "temp_dir": temp_dir,
        "token_path": token_path,
        "idle_grace_s": idle_grace_s,
        "env": {
            **scrubbed(os.environ, keep_locale=True),
            "PATH": f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', os.defpath)}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": token_path,
            "AUTOSCALER_METRIC_PORT": str(metrics),
            **env,
        },
    }
    with open(os.open(os.path.join(home, "spec.json"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                      0o600), "w") as file:  # fmt: skip
        json.dump(spec, file)
    # A session of its own: what ends this process, or its terminal, must not end the runtime
    # under other users.
    process = subprocess.Popen(
        [sys.executable, "-S", keeper.__file__, home, _packages()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    while _state(home) is None:
        if process.poll() is not None:
            raise LocalClusterError(
                f"Ray does not start on this machine; the end of {home}/ray.log:\n{_tail(home)}"
            )
        time.sleep(_POLL_S)


def _packages() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(slurm_provider.__file__)))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [listener.getsockname()[1] for listener in listeners]


def _tail(home: str) -> str:
    try:
        with open(os.path.join(home, "ray.log"), errors="replace") as file:
            return "".join(file.readlines()[-_LOG_LINES:])
    except FileNotFoundError:
        return "(no log)"
