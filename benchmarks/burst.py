"""(f) Launching and cancelling 200 nodes on the sandbox's slurmctld; the jobs only sleep."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from benchmarks.report import Findings, Line
from benchmarks.sandbox_user import ROOT, USER, SandboxUser
from benchmarks.waiting import wait_for

NODES = 200
SUBMITTED = "all submitted"
LISTED = "listed"
EMPTY = "squeue is empty"
# A small number, whatever the number of nodes: one sbatch, the site's MaxArraySize once, one
# scancel, and the watcher's listings, which cost three each.
_AIM_RPCS = 20.0
_TIMEOUT_S = 300.0
_POLL_S = 0.1  # between two squeue


def measure(user: SandboxUser, repeats: int) -> Findings:
    """The provider as in the autoscaler, against one sbatch and one scancel per node."""
    found: dict[str, list[dict[str, float]]] = {"provider": [], "one command per node": []}
    rpcs: dict[str, list[float]] = {side: [] for side in found}
    for _ in range(repeats):
        for side, once in (("one command per node", _bare_once), ("provider", _our_once)):
            before = user.rpc_counts()
            found[side].append(once(user))
            counts = user.rpc_counts().since(before)
            rpcs[side].append(float(counts.by_user.get(USER, 0)))
    ours, bare = (found[side] for side in ("provider", "one command per node"))
    return Findings(
        (
            Line("f", f"{NODES} nodes: RPCs of the user to slurmctld in all (sdiag)",
                 tuple(rpcs["provider"]), tuple(rpcs["one command per node"]), unit="",
                 aim_value=_AIM_RPCS),
            Line("f", "  launch until all are submitted", _between(ours, "", SUBMITTED),
                 _between(bare, "", SUBMITTED)),
            Line("f", "  cancel until squeue is empty", _between(ours, LISTED, EMPTY),
                 _between(bare, LISTED, EMPTY)),
        ),
        found,
    )  # fmt: skip


def _our_once(user: SandboxUser) -> dict[str, float]:
    with user.folder() as folder:
        name = folder.name
        user.give(folder / "sleep.sh", _SLEEP)
        program = str(ROOT / "benchmarks" / "burst_process.py")

        def run() -> dict[str, float]:
            done = user.run("python", program, str(folder), name, str(NODES), timeout_s=_TIMEOUT_S)
            return dict(json.loads(done.stdout.splitlines()[-1]))

        return _until_empty(user, run, lambda job: job.startswith(f"ray:{name}:"))


def _bare_once(user: SandboxUser) -> dict[str, float]:
    with user.folder() as folder:
        name = folder.name
        script = user.give(folder / "sleep.sh", _SLEEP)
        program = str(ROOT / "benchmarks" / "burst_bare.sh")

        def run() -> dict[str, float]:
            done = user.run(program, str(script), name, str(NODES), timeout_s=_TIMEOUT_S)
            start, submitted, listed = (float(line) for line in done.stdout.split())
            return {"start": start, "submitted": submitted, "listed": listed}

        return _until_empty(user, run, lambda job: job == name)


_SLEEP = "#!/bin/sh\nexec sleep 600\n"


def _until_empty(
    user: SandboxUser, run: Callable[[], dict[str, float]], owns: Callable[[str], bool]
) -> dict[str, float]:
    """Moments in seconds since the start; no job is left, come what may."""
    try:
        times = run()
        wait_for("empty squeue", lambda: not user.jobs(owns), _TIMEOUT_S, _POLL_S)
        empty = time.time()
    finally:
        user.cancel(owns, _TIMEOUT_S)
    start = times["start"]
    return {
        SUBMITTED: times["submitted"] - start,
        LISTED: times["listed"] - start,
        EMPTY: empty - start,
    }


def _between(repeats: list[dict[str, float]], first: str, last: str) -> tuple[float, ...]:
    return tuple(moments[last] - moments.get(first, 0.0) for moments in repeats)
