"""Put staged ``file_mounts`` where the user asked for them, on this host."""

from __future__ import annotations

import os
import shutil
import stat
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
    _refuse_planted(target)
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
    # In a folder of its own: whoever else may write to the target's cannot touch or foresee it.
    private = os.path.join(os.path.dirname(target), f".{os.urandom(8).hex()}")
    os.mkdir(private, 0o700)
    try:
        temporary = os.path.join(private, os.path.basename(target))
        shutil.copy2(source, temporary, follow_symlinks=False)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _refuse_planted(target: str) -> None:
    """Raises PermissionError for a target that another user made where everybody may: they could
    change what is put there, or lead it elsewhere."""
    try:
        found, parent = os.lstat(target), os.stat(os.path.dirname(target) or ".")
    except FileNotFoundError:
        return
    if found.st_uid not in (0, os.getuid()) and parent.st_mode & stat.S_IWOTH:
        raise PermissionError(
            1, "another user has made it, where everybody may; choose another target", target
        )
