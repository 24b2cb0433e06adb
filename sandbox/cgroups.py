"""This machine's cgroups: which version they are, and removing what dead hosts leave in them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from .slurm_conf import CgroupVersion

ROOT = Path("/sys/fs/cgroup")
_SCOPES = "system.slice"


def version(root: Path = ROOT) -> CgroupVersion | None:
    """v2 where all controllers are in one tree, v1 where each has its own; None without cgroups."""
    if (root / "cgroup.controllers").exists():
        return "v2"
    if (root / "freezer").is_dir():
        return "v1"
    return None


def can_limit_memory(root: Path = ROOT) -> bool:
    """Whether the kernel's memory controller is there for Slurm to use."""
    if version(root) == "v2":
        return "memory" in (root / "cgroup.controllers").read_text().split()
    return (root / "memory" / "memory.limit_in_bytes").exists()


def make_parent_of_scopes(root: Path = ROOT) -> None:
    """Make the group that slurmd puts its own into under v2; systemd has made it elsewhere."""
    if version(root) == "v2":
        (root / _SCOPES).mkdir(exist_ok=True)


def remove_leftovers(hosts: Iterable[str], root: Path = ROOT) -> None:
    """Remove the (now empty) groups that slurmd and its steps made for these hosts."""
    for host in hosts:
        # Names as Slurm's cgroup plugins give them when several slurmd share one machine.
        for group in [*root.glob(f"*/slurm_{host}"), root / _SCOPES / f"{host}_slurmstepd.scope"]:
            _remove_tree(group)
    with contextlib.suppress(OSError):  # under systemd it is never empty
        (root / _SCOPES).rmdir()


def _remove_tree(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        # A group with a process in it stays, and is the business of whoever runs that process.
        with contextlib.suppress(OSError):
            os.rmdir(folder)
