"""The node's own temporary folder: short, private, on the node's disk, gone at the end.

Ray puts AF_UNIX sockets below it (107 bytes in all, of which Ray uses 62) and makes its session
folder 0777, so the folder above it must be ours alone. Its name is known to everybody: where
somebody else made a folder of that name, one of a name that nobody knows takes its place.
"""

from __future__ import annotations

import os
import pkgutil
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping

# <temp>/session_2026-11-22_23-55-39_123456_1234567/sockets/plasma_store plus a margin.
MAX_TEMP_DIR_BYTES = 107 - 66
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_OTHER_PARENT = re.compile(r"rs\.[a-z2-7]{5}")


class ScratchError(Exception):
    """No folder for Ray's session could be made."""


def make_scratch(node_id: str, configured: str | None, environ: Mapping[str, str]) -> str:
    """Create and return ``<base>/rs-<uid>/<node_id>``, or ``<base>/rs.<random>/<node_id>``; raises
    ScratchError.

    ``configured`` (``provider.temp_dir``) is taken or refused; otherwise the first of
    $SLURM_TMPDIR, $TMPDIR and /tmp that is writable, short enough and not replaceable by others.
    """
    bases = [configured] if configured else _bases(environ)
    problems = []
    for base in map(os.path.expandvars, bases):
        try:
            return _make_below(base, node_id)
        except ScratchError as error:
            problems.append(str(error))
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
    parent = os.path.dirname(path)
    if not _is_parent_name(os.path.basename(parent)):
        raise PermissionError(1, "not below a folder for Ray's nodes")
    _make_private(parent)


def parents_beside(parent: str) -> list[str]:
    """Folders of ours for Ray's nodes that lie where ``parent`` does, itself included; raises
    OSError."""
    base = os.path.dirname(parent)
    return [
        path
        for name in sorted(os.listdir(base))
        if _is_parent_name(name) and _is_ours(path := os.path.join(base, name))
    ]


class _NotOurs(PermissionError):
    """Somebody else has made what is there."""


def _make_below(base: str, node_id: str) -> str:
    path = _short(os.path.join(base, _parent_name(), node_id))
    why = _replaceable(base)
    if why:
        raise ScratchError(why)
    try:
        try:
            _make(path)
        except _NotOurs as error:
            path = _short(os.path.join(_other_parent(base), node_id))
            print(f"[agent] {error.strerror}; using {os.path.dirname(path)} instead", flush=True)
            _make(path)
    except OSError as error:
        raise ScratchError(f"{path}: {error.strerror or error}") from error
    return path


def _short(path: str) -> str:
    if len(path.encode()) > MAX_TEMP_DIR_BYTES:
        raise ScratchError(f"{path} is longer than {MAX_TEMP_DIR_BYTES} bytes")
    return path


def _replaceable(base: str) -> str:
    """Who else can replace folders in ``base``, or it; empty if nobody."""
    if not os.path.isdir(base):
        return ""  # what is wrong with it shows when it is used
    script = pkgutil.get_data("slurm_provider", "job_scripts/own_folder.sh")
    assert script is not None
    done = subprocess.run(
        ["sh", "-s", "--", base], input=script + b'way_problem "$1"\n', capture_output=True
    )
    return done.stdout.decode(errors="replace").strip()


def _parent_name() -> str:
    return f"rs-{os.getuid()}"


def _is_parent_name(name: str) -> bool:
    return name == _parent_name() or _OTHER_PARENT.fullmatch(name) is not None


def _other_parent(base: str) -> str:
    """One that an earlier node of ours has made in its need, or a new name."""
    for parent in parents_beside(os.path.join(base, _parent_name())):
        return parent
    return os.path.join(base, f"rs.{''.join(_LETTERS[byte % 32] for byte in os.urandom(5))}")


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
    if not _is_ours(path):
        raise _NotOurs(1, f"{path} exists and is not a folder of this user")
    if stat.S_IMODE(os.lstat(path).st_mode) != 0o700:
        os.chmod(path, 0o700)


def _is_ours(path: str) -> bool:
    found = os.lstat(path)  # lstat: a link planted by somebody else must not be followed
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
