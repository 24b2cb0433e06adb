"""Linux namespaces by system call: Python 3.10 and 3.11 have no os.unshare and os.setns."""

from __future__ import annotations

import ctypes
import os
import socket

from .layout import EDGE_NAME

# <linux/sched.h>
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000

_HOST_NAMESPACES = {
    "net": _CLONE_NEWNET,
    "uts": _CLONE_NEWUTS,
    "pid": _CLONE_NEWPID,
    "mnt": _CLONE_NEWNS,
}


def enter_edge() -> None:
    """Give this process the edge node's host name; everything else stays the machine's own."""
    _check(_libc().unshare(_CLONE_NEWUTS))
    socket.sethostname(EDGE_NAME)


def enter_host(init_pid: int) -> None:
    """Move this process into a compute host; only its future children are in the PID namespace."""
    folder = f"/proc/{init_pid}/ns"
    handles = {name: os.open(f"{folder}/{name}", os.O_RDONLY) for name in _HOST_NAMESPACES}
    for name, kind in _HOST_NAMESPACES.items():
        _check(_libc().setns(handles[name], kind))
        os.close(handles[name])


def die_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent ends (PR_SET_PDEATHSIG)."""
    _check(_libc().prctl(1, number, 0, 0, 0))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
