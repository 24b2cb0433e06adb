"""A worker's life: find the head, start Ray, follow the head, drain before the end, leave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from slurm_provider.agent import earlier_ray
from slurm_provider.agent.abandoned import OWNER
from slurm_provider.agent.files import is_closing, read_json
from slurm_provider.agent.job_end import JobEnd, ask_end, drain_reason
from slurm_provider.agent.mounts import place_mounts
from slurm_provider.agent.node import STARTS, Node, NodeError, RayRuntime
from slurm_provider.agent.processes import find_descendant, is_alive
from slurm_provider.agent.ray_start import to_argv, worker_options

_POLL_S = 1.0
_HEAD_POLL_S = 5.0  # a few looks at the shared file system per node and interval
# Ray itself waits for months for a queued job (see bootstrap.py), so a job that runs but never
# joins must end itself; a cold shared file system can take minutes to import Ray.
_JOIN_TIMEOUT_S = 300.0
_RAY_NOTICES_S = 2.5
_REJOIN_WAIT_S = 90.0  # a head that restarts publishes its new address well within this


def run_worker(node: Node) -> int:
    """Run until Ray, the head or Slurm ends this node; the exit code of the job."""
    spec = node.spec.values
    head = _wait_for_head(node, spec["head_timeout_s"], newer_than=None)
    plan = node.prepare(head["ip"])
    node.run_commands(spec.get("initialization_commands", []), "initialization command")
    place_mounts(spec.get("file_mounts", []))
    node.run_commands(spec.get("setup_commands", []), "setup command")
    starts = 0
    while True:
        starts += 1
        runtime = _start(node, head)
        outcome = _follow(node, runtime, head)
        is_clean = outcome in _CLEAN
        starts_again = not is_clean and runtime.may_start_again and starts < STARTS
        if outcome != "head changed" and not starts_again:
            node.leave(outcome, 0 if is_clean else 1)
            return 0 if is_clean else 1
        node.stop_ray()
        if node.session_link:
            node.session_link.remove()
        _empty(plan.temp_dir)
        if outcome == "head changed":
            starts = 0
            head = _wait_for_head(node, _REJOIN_WAIT_S, newer_than=head["generation"])
            print(f"[agent] joining the new head at {head['gcs_address']}", flush=True)
        else:
            print(f"[agent] {outcome}: starting Ray again", flush=True)
        node.make_certificate()  # the folder was emptied, and a new head may have a new authority


def _start(node: Node, head: dict[str, Any]) -> RayRuntime:
    ports = node.reserve_ports()
    assert node.plan is not None
    node.write_shell(head["gcs_address"])
    node.env["RAY_ADDRESS"] = head["gcs_address"]
    if earlier_ray.is_installed():
        node.session_link = earlier_ray.SessionLink(head["temp_dir"], node.plan.temp_dir)
    options = worker_options(node.plan, ports, head["gcs_address"])
    argv = [sys.executable, node.env["RAY_SLURM_CODE"], "start-worker", *to_argv(options)]
    node.hand_over_ports()
    return RayRuntime(argv, node.env, node.plan.temp_dir)


_CLEAN = (
    "stopped by Slurm",
    "Ray left the cluster",
    "stopped by `ray stop`",
    "the cluster is being taken down",
)


def _follow(node: Node, runtime: RayRuntime, head: dict[str, Any]) -> str:
    """Watch a running Ray; returns why it is over."""
    raylet: int | None = None
    joined = False
    gone_since: float | None = None
    join_deadline = time.monotonic() + _JOIN_TIMEOUT_S
    next_head_check = time.monotonic() + _HEAD_POLL_S
    drain_at = _drain_time(node)
    while True:
        signums = node.signals.wait(_POLL_S if joined else 0.2)
        if signums & {signal.SIGTERM, signal.SIGINT}:
            return "stopped by Slurm"
        if signal.SIGUSR2 in signums:
            return "stopped by `ray stop`"
        # Joined first: Ray would refuse to drain a node that it does not know yet.
        is_time = drain_at is not None and joined and time.time() > drain_at
        if is_time or signal.SIGUSR1 in signums:
            drain_at = None
            _drain(node, head)
        if not joined and runtime.started.is_set():
            joined = True
            if node.session_link:  # not before: the link may lead to a worker that is at work
                node.session_link.place()
            raylet = find_descendant(os.getpid(), "raylet")
            node.report(state="joined", joined=time.time())
        node.report_memory_kills()
        code = runtime.exit_code()
        if not joined and time.monotonic() > join_deadline:
            return f"Ray did not join the head at {head['gcs_address']} in {_JOIN_TIMEOUT_S:.0f} s"
        if code is None and raylet is not None and not is_alive(raylet):
            # `ray start --block` goes on after a clean exit of the raylet (an idle or drained
            # node), so the slot would stay taken until somebody cancels the job. After any other
            # it ends within a second, and a head that is starting anew may be the reason.
            gone_since = gone_since or time.monotonic()
            if time.monotonic() - gone_since > _RAY_NOTICES_S:
                return "Ray left the cluster"
        if time.monotonic() > next_head_check or code is not None:
            next_head_check = time.monotonic() + _HEAD_POLL_S
            node.keep_logs_of_failed_runs()
            if is_closing(node.paths):
                return "the cluster is being taken down"
            node.told.again()
            if _head_changed(node, head):
                return "head changed"
        if code is not None:
            if joined and _wait_for_change(node, head):
                return "head changed"
            return f"`ray start` ended with exit code {code}"


def _drain_time(node: Node) -> float | None:
    """When to drain without being told: Slurm signals batch scripts only, and a component of a
    heterogeneous job has none."""
    assert node.plan is not None
    lead_s, end_time = node.spec.values["signal_lead_s"], node.plan.allocation.end_time
    if node.component is None or lead_s is None or end_time is None:
        return None
    return end_time - float(lead_s)


def _wait_for_head(node: Node, timeout_s: float, newer_than: str | None) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while True:
        if is_closing(node.paths):
            raise NodeError("the cluster is being taken down")
        head = _published_head(node)
        if head is not None and head["generation"] != newer_than:
            return head
        if time.monotonic() > deadline:
            raise NodeError(f"no head appeared in {node.paths.head} within {timeout_s:.0f} s")
        if node.signals.wait(0.5) & {signal.SIGTERM, signal.SIGINT}:
            raise NodeError("stopped by Slurm")


def _head_changed(node: Node, head: dict[str, Any]) -> bool:
    current = _published_head(node)
    return current is not None and current["generation"] != head["generation"]


def _published_head(node: Node) -> dict[str, Any] | None:
    """None also while the file system gives no answer, which says nothing of the head."""
    try:
        head: dict[str, Any] | None = read_json(node.paths.head)
    except OSError:
        return None
    return head


def _wait_for_change(node: Node, head: dict[str, Any]) -> bool:
    # Ray gave up on a lost head after about a minute; a restarted one may be just coming.
    deadline = time.monotonic() + _REJOIN_WAIT_S
    while time.monotonic() < deadline and not is_closing(node.paths):
        if _head_changed(node, head):
            return True
        if node.signals.wait(1.0) & {signal.SIGTERM, signal.SIGINT}:
            return False
    return False


def _drain(node: Node, head: dict[str, Any]) -> None:
    assert node.plan is not None
    values, now = node.spec.values, time.time()
    lead_s = float(values["signal_lead_s"] or values["drain_lead_s"])
    end = JobEnd(node.plan.allocation.end_time)
    if end.is_doubtful(now, lead_s):
        end = ask_end(node.plan.allocation.job_id) or end
    why, remaining_s = drain_reason(end, now, lead_s)
    print(f"[agent] {why}: draining this node ({remaining_s} s left)", flush=True)
    node.report(state="draining", reason=why)
    # In a child: it imports Ray, which the agent must not wait for.
    subprocess.Popen(
        [sys.executable, node.env["RAY_SLURM_CODE"], "drain", head["gcs_address"],
         node.spec.node_id, str(remaining_s)],
        env=node.env, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _empty(folder: str) -> None:
    for name in os.listdir(folder):
        if name == OWNER:
            continue
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
