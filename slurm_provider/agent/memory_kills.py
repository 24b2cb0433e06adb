"""Kernel kills for memory in this process's cgroup, which is its Slurm job's where Slurm limits
memory by cgroups.

Standard library only: Dagster's payloads carry a copy of this file.
"""

from __future__ import annotations

import os


def memory_kills() -> int:
    """So many so far in this cgroup and its parents; 0 if it does not say."""
    most = 0
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = "/sys/fs/cgroup", "memory.events"
        elif "memory" in controllers.split(","):
            root, name = "/sys/fs/cgroup/memory", "memory.oom_control"
        else:
            continue
        for _ in range(3):
            if path in ("", "/"):
                break
            most = max(most, _count(root + path + "/" + name))
            path = os.path.dirname(path)
    return most


def _count(path: str) -> int:
    try:
        with open(path) as file:
            for line in file:
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    return int(value)
    except (OSError, ValueError):
        pass
    return 0
