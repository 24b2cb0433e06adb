"""The head's supervisor: runs Ray's start commands when `ray up` hands them over, keeps it alive.

``ray up`` asks for a head before it has a configuration for it, so the job waits for requests:
JSON files that the command runner writes and this loop answers. What must outlive a command
runs here and not in an ``srun`` step, because most sites kill a step's processes with the step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass

from slurm_provider.agent.components import OtherComponents
from slurm_provider.agent.files import (
    is_closing,
    is_removed,
    read_json,
    write_json,
    write_text,
)
from slurm_provider.agent.job_lease import NAME as JOB_LEASE
from slurm_provider.agent.job_lease import JobLease, jobs_run
from slurm_provider.agent.leases import LeaseWatch, read_leases
from slurm_provider.agent.node import STARTS, Node, RayRuntime
from slurm_provider.agent.ray_start import head_options, metrics_env
from slurm_provider.agent.worker_jobs import WorkerJobs
from slurm_provider.cluster_paths import new_token

_FAST_POLL_S = 0.05  # while `ray up` is at work; a listing of one folder
_SLOW_POLL_S = 0.5
_FAST_FOR_S = 60.0
_HEARTBEAT_S = 10.0
_LEASE_POLL_S = 2.0
_LOGS_POLL_S = 5.0
# So long other nodes write a last report. An NFS client keeps our open log until we have ended.
_TIDY_S = 10.0
_TIDY_PAUSE_S = 0.1
_KILL_TIMEOUT_S = 3.0  # for each question: Slurm kills us KillWait after SIGTERM
_ASK_TIMEOUT_S = 30.0
_WITHDRAW_AGAIN_S = (1.0, 5.0, 30.0, 60.0)  # where nobody kills us: slurmctld may be restarting
_RESTARTS = 3  # of a Ray that died by itself, within the window
_RESTART_WINDOW_S = 600.0


@dataclass(frozen=True)
class Request:
    """A start command from ``ray up``."""

    path: str
    command: str
    env: dict[str, str]


class Head:
    """State of the supervised Ray on the head."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._paths = node.paths
        self._requests = node.paths.requests(node.spec.node_id)
        self._runtime: RayRuntime | None = None
        self._request: Request | None = None  # what started the runtime
        self._unanswered = False
        self._published = False
        self._starts = 0
        self._tries = 0  # of the present request
        self._restarts: list[float] = []
        self._seen: set[str] = set()
        timeout_s = node.spec.values.get("unleased_timeout_s")
        self._components = OtherComponents(node)
        self._workers = WorkerJobs(node.paths, node.spec.values.get("bootstrap_config", ""))
        self._leases = None if timeout_s is None else LeaseWatch(timeout_s, time.monotonic())
        self._job_lease = JobLease(node.paths, self._has_jobs)
        self._next_lease_check = 0.0

    def run(self) -> int:
        node = self._node
        os.makedirs(self._requests, mode=0o700, exist_ok=True)
        node.prepare(None)
        node.env["RAY_SLURM_CONFIG"] = node.spec.values["bootstrap_config"]
        self._prepare_start()
        node.report(state="ready")
        fast_until = time.monotonic() + _FAST_FOR_S
        next_heartbeat = next_log_check = 0.0
        while True:
            signums = node.signals.wait(
                _FAST_POLL_S if time.monotonic() < fast_until else _SLOW_POLL_S
            )
            if signums & {signal.SIGTERM, signal.SIGINT}:
                is_left_alone = is_removed(self._paths) and self._workers.is_known
                if is_left_alone or not is_closing(self._paths):
                    self._workers.withdraw(_KILL_TIMEOUT_S)
                return self._leave("stopped by Slurm")
            if is_closing(self._paths):
                return self._take_down()
            if os.path.exists(self._paths.stop(node.spec.node_id)):
                return self._leave("stopped")
            if self._is_unwanted() and self._closes():
                return self._abandon()
            if signal.SIGUSR2 in signums:
                self._stop()
            if self._take_request():
                fast_until = time.monotonic() + _FAST_FOR_S
            self._follow()
            self._components.follow()
            if time.monotonic() > next_log_check:
                next_log_check = time.monotonic() + _LOGS_POLL_S
                node.keep_logs_of_failed_runs()
            if time.monotonic() > next_heartbeat:
                next_heartbeat = time.monotonic() + _HEARTBEAT_S
                node.report(heartbeat=time.time())
                node.told.again()

    def _is_unwanted(self) -> bool:
        now = time.monotonic()
        if self._leases is None or now < self._next_lease_check:
            return False
        self._next_lease_check = now + _LEASE_POLL_S
        try:
            if self._leases.alive(read_leases(self._paths.leases), now) - {JOB_LEASE}:
                self._job_lease.give_back()
                return False
            self._job_lease.keep(now)
            return self._leases.is_unwanted(read_leases(self._paths.leases), now)
        except OSError:
            return False  # a file system that gives no answer says nothing of leases

    def _has_jobs(self) -> bool | None:
        is_up = self._published and self._runtime is not None
        return jobs_run(self._paths) if is_up else False

    def _closes(self) -> bool:
        """Set the tombstone and look once more. Who takes a lease looks for the tombstone after
        it, so at least one of the two sees the other: nobody is left with a cluster that goes."""
        assert self._leases is not None
        with contextlib.suppress(OSError):  # no answer says nothing of leases
            write_text(self._paths.closing, "")
            if self._leases.is_unwanted(read_leases(self._paths.leases), time.monotonic()):
                return True
        with contextlib.suppress(OSError):
            os.unlink(self._paths.closing)
        return False

    def _abandon(self) -> int:
        """Nobody holds a lease any more: take the whole cluster down, as `ray down` would."""
        code = self._leave("nobody holds a lease on the cluster any more")
        if self._withdraw_patiently():
            self._remove_directory()  # or it stays: by it the jobs are found and ended
        return code

    def _take_down(self) -> int:
        """Who sets the tombstone ends the workers, too; who removed the folder did not."""
        is_left_alone = is_removed(self._paths) and self._workers.is_known
        code = self._leave("the cluster is being taken down")
        if is_left_alone:
            self._withdraw_patiently()
        return code

    def _withdraw_patiently(self) -> bool:
        """Once Ray has gone, so that no more workers are asked for."""
        pauses_s = list(_WITHDRAW_AGAIN_S)
        while not self._workers.withdraw(_ASK_TIMEOUT_S):
            if not pauses_s:
                return False
            time.sleep(pauses_s.pop(0))
        return True

    def _remove_directory(self) -> None:
        """Identity and tombstone last: as long as anything is removed here, who takes a lease has
        to see them (see _closes), and nobody may make a cluster of this name."""
        root = self._paths.root
        kept = {os.path.basename(path) for path in (self._paths.identity, self._paths.closing)}
        if self._node.spec.values.get("keep_logs"):
            kept.add("logs")
        deadline = time.monotonic() + _TIDY_S
        with contextlib.suppress(FileNotFoundError):  # somebody else removes it
            while left := set(os.listdir(root)) - kept:
                for name in left:
                    path = os.path.join(root, name)
                    if os.path.isdir(path):
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        with contextlib.suppress(OSError):
                            os.unlink(path)
                if time.monotonic() > deadline:
                    break
                time.sleep(_TIDY_PAUSE_S)
            os.unlink(self._paths.identity)
            os.unlink(self._paths.closing)
        with contextlib.suppress(OSError):
            os.rmdir(root)  # stays if the logs do

    def _take_request(self) -> bool:
        try:
            listed = os.listdir(self._requests)
        except OSError:
            return False  # no answer now; is_closing tells a folder that is gone
        names = sorted(name for name in listed if name.endswith(".json") and name not in self._seen)
        if not names:
            return False
        self._seen.add(names[0])
        path = os.path.join(self._requests, names[0])
        values = read_json(path)
        assert values is not None
        self._stop()
        self._request = Request(path, values["command"], values["env"])
        self._unanswered = True
        self._tries = 0
        self._start()
        return True

    def _prepare_start(self) -> None:
        """While no Ray runs, this agent holds the ports of the next one: programs here are told its
        address already, and would show the token to whoever listens there."""
        node = self._node
        ports = node.reserve_ports()
        assert node.plan is not None
        # What the `ray start` of the user's command adds (see shim.py). Without room on the shared
        # file system it fails, too, and says so.
        with contextlib.suppress(OSError) if self._starts else contextlib.nullcontext():
            write_json(
                os.path.join(self._paths.node(node.spec.node_id), "ray-options.json"),
                head_options(node.plan, ports),
            )
        node.env.update(metrics_env(ports, node.env))
        node.write_shell(f"{node.plan.address}:{ports.gcs}")

    def _start(self) -> None:
        assert self._request is not None
        print(f"[agent] start command: {self._request.command}", flush=True)
        env = {**self._node.env, **self._request.env}
        # Left by a Ray that was killed, it makes `ray start` refuse where a worker of this
        # cluster runs on the same host: Ray takes the worker for the head.
        assert self._node.plan is not None
        temp_dir = self._node.plan.temp_dir
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(temp_dir, "ray_current_cluster"))
        self._starts += 1
        self._tries += 1
        self._published = False
        self._node.hand_over_ports()
        self._runtime = RayRuntime(["bash", "-c", self._request.command], env, temp_dir)

    def _follow(self) -> None:
        """Publish a Ray that came up, report or restart one that ended."""
        if self._runtime is None:
            return
        code = self._runtime.exit_code()
        if self._runtime.started.is_set() and not self._published and code is None:
            self._publish()
            self._answer(0)
            self._workers.learn()
        if code is None:
            return
        may_start_again = self._runtime.may_start_again
        self._stop()
        if self._unanswered:
            if may_start_again and self._tries < STARTS:
                print("[agent] `ray start` failed: starting it again", flush=True)
                self._start()
            else:
                self._answer(code, f"exit code {code}, see {self._log}")
            return
        now = time.monotonic()
        self._restarts = [t for t in self._restarts if now - t < _RESTART_WINDOW_S]
        if len(self._restarts) >= _RESTARTS:
            print("[agent] Ray keeps ending; run `ray up` again to restart it", flush=True)
            self._node.told.forget(self._paths.head)
            with contextlib.suppress(OSError):
                os.unlink(self._paths.head)  # there is none to be reached
            self._node.report(state="failed", reason=f"`ray start` ended with exit code {code}")
            return
        print(f"[agent] Ray ended with exit code {code}: starting it again", flush=True)
        self._restarts.append(now)
        self._start()

    def _publish(self) -> None:
        """Tell workers and clients where the head is."""
        node = self._node
        started = read_json(os.path.join(self._paths.node(node.spec.node_id), "ray-started.json"))
        assert started is not None and node.plan is not None
        address = started["address"]  # the user's own, if `ray start` was given one
        generation = f"{node.spec.node_id}.{time.time_ns():x}"
        node.told.tell_json(
            self._paths.head,
            {
                "node_id": node.spec.node_id,
                "job_id": node.plan.allocation.job_id,
                "host": node.plan.allocation.host,
                "ip": address,
                "gcs_address": f"{address}:{started['port']}",
                "temp_dir": started["temp_dir"],
                "client_port": int(started["client_port"]),
                "dashboard_host": started["dashboard_host"],
                "dashboard_port": int(started["dashboard_port"]),
                "generation": generation,
                "started": time.time(),
            },
        )
        node.write_shell(f"{address}:{started['port']}")
        node.report(state="joined", joined=time.time(), address=address)
        self._published = True
        self._components.start()

    def _answer(self, exit_code: int, message: str = "") -> None:
        if self._unanswered and self._request is not None:
            answer = {"exit_code": exit_code, "message": message}
            self._node.told.tell_json(f"{self._request.path}.result", answer)
            self._unanswered = False

    def _stop(self) -> None:
        if self._runtime is not None:
            self._node.stop_ray()
            self._runtime = None
            self._renew_token()
            self._prepare_start()
            self._node.report(state="ready")

    def _renew_token(self) -> None:
        """The ports of the Ray that has ended are free, and what still looks for it there shows its
        token to whoever took them: to the next Ray it is worth nothing."""
        if self._node.spec.values["auth"] != "token":
            return
        try:
            write_text(self._paths.token, new_token())
        except OSError as error:
            print(f"[agent] the token stays as it is: {error.strerror or error}", flush=True)

    def _leave(self, reason: str) -> int:
        if os.path.isdir(self._paths.root):  # or else the answer would make it anew
            self._answer(1, reason)
        self._node.leave(reason, 0)
        return 0

    @property
    def _log(self) -> str:
        return self._paths.log(self._node.spec.node_id)


def run_head(node: Node) -> int:
    """Supervise the head until Slurm or the tombstone ends it; the exit code of the job."""
    return Head(node).run()
