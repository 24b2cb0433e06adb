"""(e) The provider's work per autoscaler tick at 10, 1,000 and 10,000 nodes."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.report import Findings, Line
from benchmarks.sandbox_user import ROOT, SandboxUser

_SIZES = (10, 1000, 10000)
_AIM_AT = 1000
_AIM_MS = 50.0
_TIMEOUT_S = 120.0


def measure(_: SandboxUser | None, repeats: int) -> Findings:
    """CPU time of the autoscaler's loop and of the watcher, and commands per listing and tick.

    The aim is for a tick in which the watcher lists as well, which at most every fifth one is.
    """
    lines: list[Line] = []
    for size in _SIZES:
        runs = [_run(size) for _ in range(repeats)]
        lines += [
            Line("e", f"{size:,} nodes: CPU time of a tick and a listing",
                 tuple(run["tick_ms"] + run["listing_ms"] for run in runs), unit="ms",
                 aim_value=_AIM_MS if size == _AIM_AT else None),
            Line("e", "  of it the autoscaler's loop, each tick",
                 tuple(run["tick_ms"] for run in runs), unit="ms"),
            Line("e", "  of it the watcher's thread, each listing",
                 tuple(run["listing_ms"] for run in runs), unit="ms"),
            Line("e", "  Slurm commands per listing",
                 tuple(run["commands_per_listing"] for run in runs), unit="", aim_value=1),
            Line("e", "  Slurm commands per tick of 1 s while nodes are pending",
                 tuple(run["commands_per_tick"] for run in runs), unit="", aim_value=1),
        ]  # fmt: skip
    return Findings(tuple(lines), {})


def _run(size: int) -> dict[str, float]:
    # A process each: a provider's watcher lives as long as its process.
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tick_process", str(size)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT_S, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))
