"""Put staged ``file_mounts`` where the user asked for them, on this host."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence


def place_mounts(mounts: Sequence[Sequence[str]]) -> None:
    """Copy each (staged, target); a target on the shared file system is copied by every node."""
    for staged, target in mounts:
        place(staged, target)


def place(staged: str, target: str) -> None:
    """Copy a staged file or folder to ``target`` (``~`` and variables expanded), merging folders.

    Files are replaced by rename, so nodes that share the target may do this at the same time.
    Links stay links, as with rsync.
    """
    target = os.path.expanduser(os.path.expandvars(target)).rstrip("/")
    if os.path.isdir(staged):
        for folder, subfolders, files in os.walk(staged):
            into = os.path.normpath(os.path.join(target, os.path.relpath(folder, staged)))
            os.makedirs(into, exist_ok=True)
            links = [n for n in subfolders if os.path.islink(os.path.join(folder, n))]
            for name in [*files, *links]:
                _replace(os.path.join(folder, name), os.path.join(into, name))
    else:
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        _replace(staged, target)


def _replace(source: str, target: str) -> None:
    temporary = f"{target}.{os.uname().nodename}.{os.getpid()}"
    shutil.copy2(source, temporary, follow_symlinks=False)
    os.replace(temporary, target)
