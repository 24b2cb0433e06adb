"""Ending our own processes and nobody else's.

``ray stop`` kills every Ray process it can see on the machine by name, which on a shared host
means other people's. Here a node's processes are the descendants of its agent: the agent
becomes their "subreaper", so daemons that double-fork stay its descendants.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Orphaned descendants become children of this process (Linux >= 3.4) and not of init."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants(root: int, spared: frozenset[int] = frozenset()) -> list[int]:
    """Pids of all living descendants of ``root``, parents before children; without the ``spared``
    and what is below them."""
    return _below(root, _processes(), spared)


def _processes() -> dict[int, tuple[str, int]]:
    """State and parent of all processes, zombies too, by pid."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return {pid: stat for pid in pids if (stat := _stat(pid)) is not None}


def _below(root: int, processes: dict[int, tuple[str, int]], spared: frozenset[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, (state, parent) in processes.items():
        if state != "Z":
            children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = [pid for pid in children.get(queue.pop(), []) if pid not in spared]
        found += below
        queue += below
    return found


def is_alive(pid: int) -> bool:
    """True while the process exists and is no zombie."""
    stat = _stat(pid)
    return stat is not None and stat[0] != "Z"


def end_descendants(root: int, *, grace_s: float, spared: frozenset[int] = frozenset()) -> None:
    """TERM every descendant of ``root``, KILL after ``grace_s`` what is still there; reap all.

    The ``spared`` and what is below them live on, and are not reaped.
    """
    _signal_all(descendants(root, spared), signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while _reap_and_list(root, spared) and time.monotonic() < deadline:
        time.sleep(0.05)
    # New ones may appear between listing and killing, so until none is left.
    deadline = time.monotonic() + 5
    while (left := _reap_and_list(root, spared)) and time.monotonic() < deadline:
        _signal_all(left, signal.SIGKILL)
        time.sleep(0.02)


def find_descendant(root: int, name: str) -> int | None:
    """Pid of the descendant whose executable is called ``name`` (its ``comm``), if any."""
    for pid in descendants(root):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", "rb") as comm:
            if comm.read().strip() == name.encode():
                return pid
    return None


def _reap_and_list(root: int, spared: frozenset[int]) -> list[int]:
    processes = _processes()
    if root == os.getpid():
        for pid, (state, parent) in processes.items():
            # The spared have somebody who waits for them and wants to know how they ended.
            if state == "Z" and parent == root and pid not in spared:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
    return _below(root, processes, spared)


def _signal_all(pids: list[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def _stat(pid: int) -> tuple[str, int] | None:
    """(state, parent pid), or None when the process is gone."""
    try:
        # Any user may give a process a name that is no UTF-8.
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            text = file.read()
    except OSError:
        return None
    # The second field is the name in brackets and may itself contain spaces and brackets.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[1])
