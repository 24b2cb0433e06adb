"""Ray's cache of resolved configurations: a file in a folder that all users share.

Its name follows from the YAML, so whoever can read or guess that may write it first, and a
configuration says what runs as whom. With `ray_slurm_guard` (see `startup/`), Ray's commands
neither read nor write it.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
from importlib.util import find_spec
from pathlib import Path

_GUARD = "ray_slurm_guard"


def is_avoided() -> bool:
    """Whether Ray's commands of this Python do without the cache."""
    if not any(type(finder).__module__ == _GUARD for finder in sys.meta_path):
        return False
    ray = find_spec("ray")
    if ray is None or not ray.submodule_search_locations:
        return True  # no commands either
    launcher = Path(ray.submodule_search_locations[0], "autoscaler", "_private", "commands.py")
    return "\ndef _bootstrap_config(" in launcher.read_text()


def doubt(path: str) -> str | None:
    """Why somebody else may have written what is at ``path``, after "it"; None for a file of ours,
    and for none at all."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if found.st_uid != os.getuid():
        return f"belongs to {_user(found.st_uid)}"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    if found.st_nlink != 1:
        return "has a second name (a hard link)"
    if found.st_mode & 0o022:
        return "may be written by others"
    return None


def warn_of_foreign(path: str | None) -> None:
    """Name what somebody put where Ray's cache would be; nobody reads it."""
    why = None if path is None else doubt(path)
    if why is not None:
        print(
            f"Ignored {path}, where Ray would cache this configuration: it {why}. If you did not "
            "put it there, tell your site's support: it is how to run commands as somebody else",
            file=sys.stderr,
        )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"
