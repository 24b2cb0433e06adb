"""What a head and a worker share: take the allocation, prepare the host, run Ray, leave nothing.

The agent *is* the job's batch process, so Slurm's signals reach it: ``--signal=B:USR1@lead``
before the time limit reaches only it, ``scancel`` sends TERM to every process of the job.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slurm_provider.agent.abandoned import claim, remove_abandoned
from slurm_provider.agent.allocation import MB, job_started, read_allocation
from slurm_provider.agent.earlier_ray import SessionLink
from slurm_provider.agent.files import read_json
from slurm_provider.agent.hetjob import VARIABLE, own_component
from slurm_provider.agent.kept_logs import LogKeeper
from slurm_provider.agent.memory_kills import memory_kills
from slurm_provider.agent.network import node_address
from slurm_provider.agent.ports import NoFreePorts, PortBlock, PortRange, ServicePorts, claim_block
from slurm_provider.agent.processes import become_subreaper, end_descendants
from slurm_provider.agent.ray_start import METRICS, NodePlan
from slurm_provider.agent.scratch import make_scratch, remove_scratch
from slurm_provider.agent.tls import check_environment, tls_env
from slurm_provider.agent.unfailing import Told
from slurm_provider.cluster_paths import ClusterPaths

# Below Slurm's KillWait (30 s by default, often less): after it Slurm kills what is left.
STOP_GRACE_S = 3.0
_STARTED = "Ray runtime started."
STARTS = 3
"""So often `ray start` is tried where it fails: a second start is warm and has other ports."""
_START_FAILED = 1  # Ray's exit code for it; 2 is a wrong option
# A shared file system may give no answer for a moment.
_TOKEN_TRIES = 5
_TOKEN_PAUSE_S = 1.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PRIVATE = ("RAY_OVERRIDE_", "RAY_ADDRESS", "RAY_AUTH_", "RAY_CLOUD_", "RAY_NODE_TYPE_NAME",
            VARIABLE)  # fmt: skip


class NodeError(Exception):
    """The node cannot start; the message is for the user."""


@dataclass(frozen=True)
class Spec:
    """A node's launch specification, as the provider wrote it."""

    paths: ClusterPaths
    node_id: str
    values: Mapping[str, Any]

    @classmethod
    def read(
        cls, cluster_dir: str, launch: str, environ: Mapping[str, str], index: str | None = None
    ) -> Spec:
        paths = ClusterPaths(cluster_dir)
        values = read_json(paths.launch(launch))
        if values is None:
            raise NodeError(
                f"{paths.launch(launch)} is not visible on {socket.gethostname()}: "
                "provider.cluster_dir must be on a file system that all hosts share"
            )
        task = environ.get("SLURM_ARRAY_TASK_ID")
        return cls(paths, f"{launch}-{index or task or 0}", values)


class Signals:
    """Signals as a queue that a loop can wait on."""

    def __init__(self, *signums: int) -> None:
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for signum in signums:
            signal.signal(signum, lambda *_: None)

    def wait(self, timeout_s: float) -> set[int]:
        """Signals that arrived; returns early when one does."""
        if not select.select([self._pipe[0]], [], [], timeout_s)[0]:
            return set()
        return set(os.read(self._pipe[0], 4096))


class RayRuntime:
    """One running ``ray start --block`` and what it printed."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], folder: str) -> None:
        """``folder`` is the current one of Ray's tasks, which must be able to write there."""
        self.started = threading.Event()  # set when Ray says that it runs
        self._process = subprocess.Popen(
            argv, env=dict(env), cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        self.pid = self._process.pid
        self._echo = threading.Thread(target=self._read, daemon=True)
        self._echo.start()

    def exit_code(self) -> int | None:
        """None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._echo.join(timeout=1)
        return code

    @property
    def may_start_again(self) -> bool:
        """Whether it ended before Ray ran, by what may be over at a second start."""
        return not self.started.is_set() and self.exit_code() == _START_FAILED

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if _STARTED in line:
                self.started.set()


class Node:
    """This job as a Ray node: its plan, its environment and its report."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.paths = spec.paths
        self.told = Told()
        self.signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
        self.scratch: str | None = None
        self.plan: NodePlan | None = None
        self.session_link: SessionLink | None = None
        self.env: dict[str, str] = {}
        self._log_keeper = LogKeeper(
            spec.paths, spec.node_id, is_head=spec.values.get("kind") == "head"
        )
        self.spared: set[int] = set()  # children that are not this node's, see components.py
        self._memory_kills = memory_kills()
        self.component = own_component(os.environ)
        self._report: dict[str, Any] = {
            "node_id": spec.node_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job_id": os.environ.get("SLURM_JOB_ID", ""),
            "agent_started": time.time(),
        }
        if self.component is not None:
            self._report |= {
                "job_id": self.component.job_id,
                "leader_id": self.component.leader_id,
                "component": self.component.number,
            }

    def prepare(self, head_address: str | None) -> NodePlan:
        """Claim ports and folders and work out the plan; raises NodeError and friends."""
        become_subreaper()
        os.umask(0o077)
        values = self.spec.values
        component = self.component
        allocation = read_allocation(
            os.environ if component is None else component.environ(os.environ),
            host=socket.gethostname(),
            host_cpus=os.cpu_count() or 1,
            host_memory_mb=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MB,
            now=component.started if component else job_started(os.environ, time.time()),
            time_limit_s=values.get("time_limit_s"),
        )
        granted_cpus = allocation.cpus
        given = values["given"]  # what the user wrote wins over what Slurm granted
        allocation = replace(
            allocation,
            cpus=given.get("CPU", allocation.cpus),
            gpus=given.get("GPU", allocation.gpus),
        )
        self.scratch = make_scratch(self.spec.node_id, values.get("temp_dir"), os.environ)
        claim(self.scratch)
        remove_abandoned(os.path.dirname(self.scratch))
        self.plan = NodePlan(
            allocation=allocation,
            node_type=values["node_type"],
            address=node_address(values.get("network"), head_address),
            worker_ports=[],
            temp_dir=self.scratch,
            shm_free_mb=_shm_free_mb(),
            custom_resources=values.get("custom_resources", {}),
            labels=values.get("labels", {}),
            gpu_type=values.get("gpu_type"),
            memory_bytes=given.get("memory"),
            object_store_memory_mb=values.get("object_store_memory_mb"),
            extra=values.get("ray_start_options", {}),
        )
        self.claim_ports()
        self.env = self._environment()
        self.make_certificate()
        self.report(
            state="starting", address=self.plan.address, granted_cpus=granted_cpus,
            cpus=allocation.cpus, gpus=allocation.gpus, memory_mb=allocation.memory_mb,
            temp_dir=self.scratch,
        )  # fmt: skip
        return self.plan

    def claim_ports(self) -> None:
        """Raises NoFreePorts."""
        assert self.plan is not None
        low, high = self.spec.values["ports"]
        # Kept by the object: releasing the guards would release the claim.
        self._block: PortBlock = claim_block(PortRange(low, high), self.plan.allocation.cpus)
        self.plan = replace(self.plan, worker_ports=self._block.workers)

    def reserve_ports(self) -> ServicePorts:
        """For the next start of Ray; nobody else gets them before :meth:`hand_over_ports`.

        Raises NoFreePorts.
        """
        try:
            return self._block.reserve()
        except NoFreePorts:  # somebody has taken them one by one
            self._block.release()
            self.claim_ports()
            return self._block.reserve()

    def hand_over_ports(self) -> None:
        self._block.hand_over()

    @property
    def uses_tls(self) -> bool:
        return bool(self.spec.values.get("tls"))

    def make_certificate(self) -> None:
        """For the next start of Ray, where the cluster uses TLS; raises TlsError."""
        if self.uses_tls:
            assert self.plan is not None
            check_environment(self.env["RAY_SLURM_RAY"])
            folder = os.path.join(self.plan.temp_dir, "tls")
            self.env |= tls_env(self.paths.authority, folder, self.plan.address)

    def run_commands(self, commands: Sequence[str], what: str) -> None:
        """Run the user's shell lines one after the other; raises NodeError on the first failure."""
        for command in commands:
            print(f"[agent] {what}: {command}", flush=True)
            done = subprocess.run(["bash", "-c", command], env=self.env, stdin=subprocess.DEVNULL)
            if done.returncode != 0:
                raise NodeError(f"{what} failed with exit code {done.returncode}: {command}")

    def write_shell(self, head_address: str | None) -> None:
        """Leave the node's environment for ``ray exec`` and ``ray attach``."""
        variables = {
            name: value
            for name, value in self.env.items()
            if name == "SLURM_CONF" or not name.startswith("SLURM")
            if _NAME.fullmatch(name)  # no shell takes others, such as bash's exported functions
        }
        if head_address:
            variables["RAY_ADDRESS"] = head_address
        lines = [f"export {key}={_quoted(value)}" for key, value in variables.items()]
        self.told.tell(self.paths.shell(self.spec.node_id), "\n".join(lines) + "\n")

    def report(self, **values: Any) -> None:
        """Merge into the node's report, which the provider and ``ray-slurm status`` read.

        Never raises: what cannot be written now is written later.
        """
        self._report.update(values)
        self.told.tell_json(self.paths.report(self.spec.node_id), self._report)

    def keep_logs_of_failed_runs(self) -> None:
        """To be called every few seconds."""
        if self.scratch:
            self._log_keeper.look(self.scratch)

    def report_memory_kills(self) -> None:
        """To be called often: who wonders why a worker process is gone looks at the report."""
        kills = memory_kills()
        if kills > self._memory_kills:
            self.report(memory_kills=kills, memory_killed=time.time())
            self._memory_kills = kills

    def stop_ray(self) -> None:
        """End every process below this agent but those of other components."""
        end_descendants(os.getpid(), grace_s=STOP_GRACE_S, spared=frozenset(self.spared))

    def leave(self, reason: str, exit_code: int) -> None:
        """Stop Ray, remove the temporary folder, say why in the report. Never raises."""
        # The agent's own end must not be cut short by a second signal.
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(signum, signal.SIG_IGN)
        self.stop_ray()
        if self.scratch:
            _keep_logs(self.scratch, self.spec)
            self._log_keeper.leave(self.scratch)
            if self.session_link:
                self.session_link.remove()
            remove_scratch(self.scratch)
        if os.path.isdir(self.paths.root):  # `ray down` may have removed the folder already
            self.report(state="ended", reason=reason, exit_code=exit_code, ended=time.time())
        print(f"[agent] node left: {reason}", flush=True)

    def _environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(_PRIVATE)}
        code = self.spec.values["code"]
        real_ray = shutil.which("ray")
        if real_ray is None:
            raise NodeError(
                f"there is no 'ray' on PATH of {socket.gethostname()} after activating the "
                "environment; check provider.environment (PATH was "
                f"{os.environ.get('PATH', '')})"
            )
        env.update(
            RAY_CLOUD_INSTANCE_ID=self.spec.node_id,
            RAY_NODE_TYPE_NAME=self.spec.values["node_type"],
            **self._authentication(),
            # Ray would drain for 30 s on SIGTERM, longer than most sites' KillWait; a node that
            # is ended on purpose is drained before.
            RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S="0",
            **{METRICS: "false"},
            RAY_SLURM_PYTHON=sys.executable,
            RAY_SLURM_CODE=code,
            RAY_SLURM_RAY=real_ray,
            RAY_SLURM_NODE=self.paths.node(self.spec.node_id),
            PATH=f"{os.path.dirname(code)}/bin:{env.get('PATH', '')}",
            PYTHONPATH=os.pathsep.join(p for p in (code, env.get("PYTHONPATH")) if p),
        )
        env.update(self.spec.values.get("env", {}))
        return env

    def _authentication(self) -> dict[str, str]:
        """Raises NodeError: without its token, Ray would let everybody in or nobody."""
        mode = self.spec.values["auth"]
        if mode == "disabled":
            return {"RAY_AUTH_MODE": mode}
        problem = ""
        for attempt in range(_TOKEN_TRIES):
            if attempt:
                time.sleep(_TOKEN_PAUSE_S)
            try:
                with open(self.paths.token, encoding="ascii") as file:
                    if file.read().strip():
                        return {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN_PATH": self.paths.token}
                problem = "it is empty"
            except (OSError, ValueError) as error:
                problem = getattr(error, "strerror", None) or str(error)
        raise NodeError(
            f"Ray is not started without authentication: {self.paths.token} cannot be read on "
            f"{socket.gethostname()} ({problem}). `ray up` makes a new token for a new head"
        )


def _keep_logs(scratch: str, spec: Spec) -> None:
    if not spec.values.get("keep_logs"):
        return
    source = os.path.join(scratch, "session_latest", "logs")
    target = os.path.join(spec.paths.logs, f"{spec.node_id}.ray")
    with contextlib.suppress(OSError, shutil.Error):
        shutil.copytree(os.path.realpath(source), target, dirs_exist_ok=True)


def _shm_free_mb() -> int | None:
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return None
    return found.f_bavail * found.f_frsize // MB


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"
