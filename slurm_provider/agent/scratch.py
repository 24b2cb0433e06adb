"""The node's own temporary folder: short, private, on the node's disk, gone at the end.

Ray puts AF_UNIX sockets below it (107 bytes in all, of which Ray uses 62) and makes its session
folder 0777, so the folder above it must be ours alone.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping

# <temp>/session_2026-11-22_23-55-39_123456_1234567/sockets/plasma_store plus a margin.
MAX_TEMP_DIR_BYTES = 107 - 66


class ScratchError(Exception):
    """No folder for Ray's session could be made."""


def make_scratch(node_id: str, configured: str | None, environ: Mapping[str, str]) -> str:
    """Create and return ``<base>/rs-<uid>/<node_id>``; raises ScratchError.

    ``configured`` (``provider.temp_dir``) is taken or refused; otherwise the first of
    $SLURM_TMPDIR, $TMPDIR and /tmp that is writable and short enough.
    """
    bases = [configured] if configured else _bases(environ)
    problems = []
    for base in bases:
        path = os.path.join(os.path.expandvars(base), _parent_name(), node_id)
        if len(path.encode()) > MAX_TEMP_DIR_BYTES:
            problems.append(f"{path} is longer than {MAX_TEMP_DIR_BYTES} bytes")
            continue
        try:
            _make(path)
            return path
        except OSError as error:
            problems.append(f"{path}: {error.strerror or error}")
    raise ScratchError(
        f"no usable temporary folder ({'; '.join(problems)}); set provider.temp_dir to a short, "
        "writable folder on the nodes' own disk"
    )


def remove_scratch(path: str) -> None:
    """Remove the folder; also its parent when no other node of ours is left on this host."""
    shutil.rmtree(path, ignore_errors=True)
    try:
        os.rmdir(os.path.dirname(path))
    except OSError:
        pass  # another node of ours still lives here


def make_parent(path: str) -> None:
    """Make the parent of a scratch folder, which only this user can enter; raises OSError."""
    if os.path.basename(os.path.dirname(path)) != _parent_name():
        raise PermissionError(1, "not below a folder for Ray's nodes")
    _make_private(os.path.dirname(path))


def _parent_name() -> str:
    return f"rs-{os.getuid()}"


def _bases(environ: Mapping[str, str]) -> list[str]:
    candidates = [environ.get("SLURM_TMPDIR"), environ.get("TMPDIR"), "/tmp"]
    return list(dict.fromkeys(c for c in candidates if c))


def _make(path: str) -> None:
    for attempts_left in reversed(range(10)):
        _make_private(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
            return
        except FileNotFoundError:
            # Another node of ours just left and took the empty parent along.
            if not attempts_left:
                raise


def _make_private(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)  # lstat: a link planted by somebody else must not be followed
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(1, "exists and is not a folder of this user")
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)
