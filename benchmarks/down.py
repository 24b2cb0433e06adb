"""(d) `ray down` until squeue shows nothing of the cluster, against one bare scancel."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.bare_ray import bare_ray
from benchmarks.head_driver import head_driver
from benchmarks.our_ray import our_ray
from benchmarks.report import Findings, Line, at
from benchmarks.sandbox_user import SandboxUser
from benchmarks.waiting import wait_for

WORKERS = 3
EMPTY = "squeue is empty"
COMPLETE = "complete"
_TIMEOUT_S = 120.0
_POLL_S = 0.05  # between two squeue


def measure(user: SandboxUser, repeats: int) -> Findings:
    """A head and three workers each time, in turns."""
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    for _ in range(repeats):
        bare.append(_bare_once(user))
        ours.append(_our_once(user))
    return Findings(
        (
            Line("d", f"end of a head and {WORKERS} workers until squeue is empty",
                 at(ours, EMPTY), at(bare, EMPTY)),
            Line("d", "  until `ray down` is complete",
                 at(ours, COMPLETE)),
        ),
        {"`ray down`": ours, "bare scancel": bare},
    )  # fmt: skip


def _bare_once(user: SandboxUser) -> dict[str, float]:
    with bare_ray(user) as cluster:
        cluster.head_by_sbatch()
        with head_driver(user, cluster) as driver:
            cluster.submit_workers(WORKERS)
            driver.submit(user, WORKERS)
            driver.answer()
        start = cluster.scancel()
        return _moments(user, cluster.owns, start)


def _our_once(user: SandboxUser) -> dict[str, float]:
    with our_ray(user) as cluster:
        cluster.up()
        with head_driver(user, cluster) as driver:
            driver.submit(user, WORKERS)
            driver.answer()
        with cluster.down() as (start, child):
            moments = _moments(user, cluster.owns, start)
            child.wait(_TIMEOUT_S)
            moments[COMPLETE] = time.time() - start
        return moments


def _moments(user: SandboxUser, owns: Callable[[str], bool], start: float) -> dict[str, float]:
    """When no job of the cluster runs any more, and when squeue lists none."""
    wait_for(
        "end of the cluster's jobs",
        lambda: all(job.state == "COMPLETING" for job in user.jobs(owns)), _TIMEOUT_S, _POLL_S,
    )  # fmt: skip
    cancelled = time.time()
    wait_for("empty squeue", lambda: not user.jobs(owns), _TIMEOUT_S, _POLL_S)
    return {"all jobs cancelled": cancelled - start, EMPTY: time.time() - start}
