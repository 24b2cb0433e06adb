"""One compute host: namespaces of its own (network, host name, mounts, processes) and a slurmd.

Everything the host runs lives in its PID namespace, so ending its process 1 is a power loss.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from . import network
from .cgroups import remove_leftovers
from .daemons import daemon_env
from .layout import Paths, Shape
from .processes import ProcessId, children, kill_and_wait, program, start_daemon, wait_until

INIT_SCRIPT = Path(__file__).with_name("host_init.sh")
START_TIMEOUT_S = 15.0


def power_on(host: str, shape: Shape, paths: Paths) -> ProcessId:
    """Start the host's process 1 with its namespaces and its network; returns process 1."""
    tmp = paths.host_tmp(host)
    shutil.rmtree(tmp, ignore_errors=True)  # as systemd does at every boot
    tmp.mkdir(parents=True)
    tmp.chmod(0o1777)
    remove_leftovers([host])
    network.disconnect_host(host)
    init = _start_child(
        f"host-{host}",
        [
            *("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", str(INIT_SCRIPT), host, str(tmp), str(shape.memory_mb // 2)),
        ],
        "sleep",
        paths,
    )
    network.connect_host(host, init.pid)
    return init


def start_slurmd(host: str, init: ProcessId, paths: Paths) -> ProcessId:
    """Start slurmd inside the host; returns slurmd itself, as the machine sees it."""
    # nsenter and not `ip netns exec`: that one mounts a new /sys, which hides the cgroups.
    return _start_child(
        f"slurmd-{host}",
        [
            *f"nsenter --target {init.pid} --net --uts --mount --pid".split(),
            *("slurmd", "-D", "-N", host),
        ],
        "slurmd",
        paths,
    )


def power_off(host: str, init: ProcessId | None) -> None:
    """Power loss: the cable goes first, so that no other host hears a goodbye."""
    network.disconnect_host(host)
    if init is not None:
        kill_and_wait([init])


def _start_child(name: str, argv: list[str], child_program: str, paths: Paths) -> ProcessId:
    """Start argv, which forks once into new namespaces; the child, when it is that program."""
    log = paths.output(name)
    parent = start_daemon(argv, log, daemon_env(paths))
    found: list[ProcessId] = []

    def child_is_there() -> bool:
        found[:] = [child for child in children(parent.pid) if program(child) == child_program]
        return bool(found)

    wait_until(child_is_there, name, START_TIMEOUT_S, parent, log)
    return found[0]
