"""(b) New demand until the first task runs on a new worker, (c) the same for three workers at once.

Against a bare sbatch of `ray start --address`, with the same driver on an equally warm head.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.bare_ray import BareRay, bare_ray
from benchmarks.head_driver import HeadDriver, head_driver
from benchmarks.our_ray import OurRay, our_ray
from benchmarks.report import Findings, Line, at
from benchmarks.sandbox_user import SandboxUser

ALIVE = "GCS lists it alive"
TASK = "task runs"
# A head that has just started, or just lost its workers, is still busy with that; and ended right
# after its task, a worker would be replaced for a demand that GCS has not yet seen go.
_SETTLE_S = 5.0


def measure(user: SandboxUser, repeats: int) -> Findings:
    """Both heads stay up and take turns, so that both sides see the same machine."""
    found: dict[str, list[dict[str, float]]] = {}
    with our_ray(user) as ours, bare_ray(user) as bare:
        bare.head_by_sbatch()
        ours.up()
        ours.wait_for_dashboard()
        with head_driver(user, ours) as our_driver, head_driver(user, bare) as bare_driver:
            for _ in range(repeats):
                for count in (1, 3):
                    time.sleep(_SETTLE_S)
                    moments = _bare_once(user, bare, bare_driver, count)
                    found.setdefault(f"bare, {count} worker(s)", []).append(moments)
                    time.sleep(_SETTLE_S)
                    moments = _our_once(user, ours, our_driver, count)
                    found.setdefault(f"ours, {count} worker(s)", []).append(moments)
    lines: list[Line] = []
    for item, count in (("b", 1), ("c", 3)):
        ours_of, bare_of = (found[f"{side}, {count} worker(s)"] for side in ("ours", "bare"))
        words = "the first task runs" if count == 1 else "all three tasks run"
        lines += [
            Line(item, f"new demand until {words} ({count} new worker{'s' * (count > 1)})",
                 at(ours_of, TASK), at(bare_of, TASK), aim_ratio=1.3),
            Line(item, f"  until GCS lists {'it' if count == 1 else 'all three'} alive",
                 at(ours_of, ALIVE), at(bare_of, ALIVE)),
        ]  # fmt: skip
    return Findings(tuple(lines), found)


def _bare_once(
    user: SandboxUser, cluster: BareRay, driver: HeadDriver, count: int
) -> dict[str, float]:
    start = cluster.submit_workers(count)
    driver.submit(user, count)
    return _moments(cluster, driver, driver.answer(), start)


def _our_once(
    user: SandboxUser, cluster: OurRay, driver: HeadDriver, count: int
) -> dict[str, float]:
    driver.submit(user, count)
    answer = driver.answer()
    return _moments(cluster, driver, answer, float(answer["submitted"]))


def _moments(
    cluster: OurRay | BareRay, driver: HeadDriver, answer: dict[str, Any], start: float
) -> dict[str, float]:
    """Of the last node and task; the workers are ended afterwards."""
    moments = {ALIVE: max(answer["alive"]) - start, TASK: max(answer["begun"]) - start}
    moments |= cluster.worker_moments(start)
    time.sleep(_SETTLE_S)
    cluster.cancel_workers()
    driver.wait_alive(1)
    return moments
