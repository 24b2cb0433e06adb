"""Temporary folders of nodes whose agent was killed: a later node of the user on the host removes
them.

Each agent holds a lock in its folder for its life. A folder without one says nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import threading
from collections.abc import Iterator

from slurm_provider.agent.scratch import parents_beside

OWNER = "agent.lock"
# It has ended, or has rights of its own (an SSH server's, say).
_NOT_RAYS = (FileNotFoundError, ProcessLookupError, PermissionError)
_HELD: list[int] = []  # to the end of this process; children do not inherit it


def claim(folder: str) -> None:
    """Keep later nodes from removing this process's folder, and let them when it was killed."""
    # Where locks do not work, no file: it stays for good.
    path = os.path.join(folder, OWNER)
    with contextlib.suppress(OSError):
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        _HELD.append(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, socket.gethostname().encode())
        os.rename(f"{path}.new", path)


def remove_abandoned(parent: str) -> None:
    """Remove what is left in ``parent`` and in others of ours beside it, in the background; never
    raises."""
    # /proc tells where processes are by paths without links.
    parent = os.path.realpath(parent)
    threading.Thread(target=_remove_all, args=(parent,), daemon=True).start()


def _remove_all(parent: str) -> None:
    with contextlib.suppress(OSError):
        _remove_in(parent)
    with contextlib.suppress(OSError):
        for other in parents_beside(parent):
            if other != parent:
                _remove_in(other)
                with contextlib.suppress(OSError):
                    os.rmdir(other)  # fails while something is left in it


def _remove_in(parent: str) -> None:
    for name in os.listdir(parent):
        folder = os.path.join(parent, name)
        with contextlib.suppress(OSError):
            if not os.path.islink(folder):
                remove_if_abandoned(folder)


def remove_if_abandoned(folder: str) -> bool:
    """Whether it was: its agent was of this host, is gone, and no process of ours is left in it.

    Raises OSError, also where that is not known.
    """
    path = os.path.join(folder, OWNER)
    with open(path, "rb") as owner:
        if owner.read() != socket.gethostname().encode():
            return False  # another host's processes cannot be seen from here
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the agent lives
        if any(used != path and _is_below(used, folder) for used in _paths_in_use()):
            return False
        print(f"[agent] removing {folder}, which a killed node left", flush=True)
        for name in os.listdir(folder):  # the lock last: the next node goes on if this one ends
            if name != OWNER:
                inner = os.path.join(folder, name)
                if os.path.isdir(inner) and not os.path.islink(inner):
                    shutil.rmtree(inner)
                else:
                    os.unlink(inner)
        os.unlink(path)
        os.rmdir(folder)
    return True


def _paths_in_use() -> Iterator[str]:
    """Current folders and open files of all processes of this user on this host."""
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        process = os.path.join("/proc", pid)
        try:
            if os.stat(process).st_uid != os.getuid():
                continue
            links = [os.path.join(process, "cwd")]
            links += [os.path.join(process, "fd", name) for name in os.listdir(f"{process}/fd")]
        except _NOT_RAYS:
            continue
        for link in links:
            with contextlib.suppress(*_NOT_RAYS):
                yield os.readlink(link)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
