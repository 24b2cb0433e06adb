"""The srun of a command on a node, and the SSH server's process above it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def srun_with(*words: str) -> int:
    """Pid of the one srun whose command line has all of these words; its helper is left out."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_bytes().split(b"\0")
            line = b" ".join(argv)
            is_srun = os.path.basename(argv[0]) == b"srun"
            if is_srun and all(word.encode() in line for word in words):
                found.add(int(entry.name))
    (pid,) = [pid for pid in found if _parent(pid) not in found]
    return pid


def sshd_above(pid: int) -> int:
    """The process of the SSH server to whose connection this one belongs."""
    while pid > 1:
        pid = _parent(pid)
        if Path(f"/proc/{pid}/comm").read_text().startswith("sshd"):
            return pid
    raise AssertionError("no sshd above it")


def _parent(pid: int) -> int:
    # The second field is the name in brackets and may itself contain spaces and brackets.
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
