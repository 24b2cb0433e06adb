"""`python -m benchmarks`: measure, print one table, keep the figures as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import ray
from rich.console import Console

from benchmarks import burst, dagster_item, demand, down, tick, tls, up
from benchmarks.errors import BenchmarkError
from benchmarks.report import Findings, phase_table, table
from benchmarks.sandbox_user import ROOT, SandboxUser

_QUIET_LOAD = 0.5
_RESULTS = ROOT / "benchmarks" / "results"
_ITEMS: dict[str, Callable[[SandboxUser, int], Findings]] = {
    "up": up.measure,
    "demand": demand.measure,
    "down": down.measure,
    "tick": tick.measure,
    "burst": burst.measure,
    "tls": tls.measure,
    "dagster": dagster_item.measure,
}
_ON_REQUEST = "dagster"  # installs the peer from a package index


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    args = _parser().parse_args(argv)
    # argparse checks a default against the choices only as one text.
    names = [args.items] if isinstance(args.items, str) else list(dict.fromkeys(args.items))
    if "all" in names:
        names = [name for name in _ITEMS if name != _ON_REQUEST or name in names]
    # Ended from outside, everything is cleaned up just as after Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    try:
        user = SandboxUser()
        facts = _machine(user)
        disturbed = _disturbances(user, os.getloadavg()[0])
        if str(ROOT).startswith(("/tmp/", "/dev/", "/root/")):
            raise BenchmarkError(
                f"the checkout {ROOT} is not visible on the sandbox's hosts or to its users; run "
                "from one elsewhere, e.g. below /opt"
            )
        findings: dict[str, Findings] = {}
        failed = ""
        for name in names:
            console.print(f"measuring {name} ({args.repeat}x) ...")
            try:
                findings[name] = _ITEMS[name](user, args.repeat)
            except (BenchmarkError, subprocess.SubprocessError) as problem:
                failed = f"{name}: {problem}"  # the others' figures are worth keeping
                print(f"benchmarks: {failed}", file=sys.stderr)
        disturbed |= _disturbances(user, 0.0)
    except (BenchmarkError, subprocess.SubprocessError) as problem:
        print(f"benchmarks: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; clusters, jobs and files are removed", file=sys.stderr)
        return 130
    _show(console, findings)
    for words in sorted(disturbed):
        console.print(f"NOT COMPARABLE: {words}.")
    facts |= {"repeat": args.repeat, "disturbed": sorted(disturbed)}
    _write(args.json, facts, findings)
    console.print(f"All values: {args.json}")
    return 1 if failed else 0


def _disturbances(user: SandboxUser, load: float) -> set[str]:
    """What makes the figures worthless, in words."""
    found = set()
    if load > _QUIET_LOAD:
        found.add(f"the machine was busy with something else (load {load:.1f})")
    if user.slurm("squeue", "--noheader").strip():
        found.add("the sandbox had other jobs, behind which ours may have waited in the queue")
    return found


def _show(console: Console, findings: dict[str, Findings]) -> None:
    # A pipe has no width; a table cut to 80 columns is no use in a file.
    wide = console if console.is_terminal else Console(width=150)
    wide.print(table([line for found in findings.values() for line in found.lines]))
    for name, found in findings.items():
        if found.phases:
            wide.print(phase_table(found, f"{name}: where the time went"))


def _write(path: Path, facts: dict[str, Any], findings: dict[str, Findings]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    items = {
        name: {"lines": [line.as_dict() for line in found.lines], "moments": found.phases}
        for name, found in findings.items()
    }
    path.write_text(json.dumps({**facts, "items": items}, indent=1) + "\n")


def _machine(user: SandboxUser) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ray": ray.__version__,
        "slurm": user.slurm("sbatch", "--version").strip(),
        "load_before": os.getloadavg()[0],
    }


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("items", nargs="*", choices=["all", *_ITEMS], default="all",
                        metavar="ITEM",
                        help=f"all but {_ON_REQUEST} (default), {', '.join(_ITEMS)}")  # fmt: skip
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument("--json", type=Path, metavar="FILE",
                        default=_RESULTS / time.strftime("%Y-%m-%d-%H%M%S.json"),
                        help="default benchmarks/results/<date>.json")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
