"""(h) What `provider.tls` costs: a driver on the head and a worker on another host, with TLS and
without."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.head_driver import HeadDriver, head_driver
from benchmarks.our_ray import our_ray
from benchmarks.report import Findings, Line, at
from benchmarks.sandbox_user import SandboxUser
from benchmarks.tls_driver import CALLS, OBJECT_MB, TASKS

_WHAT = {
    "tasks": f"{TASKS} empty tasks on another host",
    "calls in flight": f"{CALLS} actor calls on another host, all in flight",
    "calls in turn": f"{CALLS} actor calls on another host, one after the other",
    "object": f"an object of {OBJECT_MB} MB from another host",
}


def measure(user: SandboxUser, repeats: int) -> Findings:
    """Both clusters stay up and take turns; ours is the one with TLS, bare the one without."""
    found: dict[str, list[dict[str, float]]] = {"with TLS": [], "without": []}
    with ExitStack() as stack:
        drivers: dict[str, HeadDriver] = {}
        for side in found:
            cluster = stack.enter_context(our_ray(user, _on_two_hosts(user, side == "with TLS")))
            cluster.up()
            drivers[side] = stack.enter_context(head_driver(user, cluster, "tls_driver.py"))
        for _ in range(repeats):
            for side, driver in drivers.items():
                found[side].append(driver.measure())
    ours, bare = found.values()
    lines = [Line("h", words, at(ours, name), at(bare, name)) for name, words in _WHAT.items()]
    return Findings(tuple(lines), {})


def _on_two_hosts(user: SandboxUser, tls: bool) -> dict[str, Any]:
    """What the cluster's YAML says besides: the head on the first host, a worker on the second."""
    first, second, *_ = [*sorted(user.hosts), None, None]
    if first is None or second is None:
        raise BenchmarkError("the sandbox needs two hosts for this: `python -m sandbox up`")
    small = {"cpus-per-task": 1, "mem": "2G"}
    return {
        "provider": {"tls": tls},
        "available_node_types": {
            "head": {"node_config": {**small, "nodelist": first}},
            "cpu": {
                "node_config": {**small, "nodelist": second},
                "resources": {"far": 1},
                "max_workers": 1,
            },
        },
    }
