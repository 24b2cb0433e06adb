"""What a lock file or requirements file says, with the files it names (reading only)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from dagster_glue.environment.base import EnvironmentFailed

_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s+|=)(?P<path>\S+)")
_EDITABLE = re.compile(r"(?:-e|--editable)\b")
_LOCAL = re.compile(r"(?:[^\s;#]+\s*@\s*)?(?:file:(?://)?)?(?P<path>(?:\.{1,2}/|/)[^\s;#]*)")
_PYLOCK = re.compile(r"pylock(?:\.[^.]+)?\.toml")  # the names of PEP 751
_PYLOCK_FOLDER = re.compile(r"\[packages\.directory\]|\bdirectory\s*=\s*\{")
_PINNED = re.compile(r"(?:==|===|\s@\s|\.whl\b)")


@dataclass(frozen=True)
class LockedFiles:
    """All that decides which packages are installed."""

    contents: tuple[tuple[str, bytes], ...]
    """(path as named, content), in the order of reading."""
    unpinned: tuple[str, ...]
    """Requirements without an exact version: what they give depends on the day."""


def read_locked(path: str) -> LockedFiles:
    """Read ``uv.lock`` (with the ``pyproject.toml`` beside it), ``pylock.toml`` or requirements.

    Raises EnvironmentFailed for a file that is not there, for another tool's lock file, and for
    own code as a folder.
    """
    name = os.path.basename(path)
    if name == "uv.lock":
        beside = os.path.join(os.path.dirname(path), "pyproject.toml")
        return LockedFiles(((name, _read(path)), ("pyproject.toml", _read(beside))), ())
    if _PYLOCK.fullmatch(name):
        content = _read(path)
        for line in _logical_lines(content.decode("utf-8", "replace")):
            if _PYLOCK_FOLDER.search(line):
                raise _own_code(path, line)
        return LockedFiles(((name, content),), ())
    if name.endswith((".toml", ".lock", ".json", ".yaml", ".yml")):
        raise EnvironmentFailed(
            f"{path} is no lock file that uv installs from: give a uv.lock, a pylock.toml, or "
            "requirements with exact versions (Poetry and others export them)"
        )
    contents: dict[str, bytes] = {}
    unpinned: list[str] = []
    _follow(path, path, contents, unpinned, is_constraint=False)
    return LockedFiles(tuple(contents.items()), tuple(unpinned))


def _follow(
    path: str, top: str, contents: dict[str, bytes], unpinned: list[str], *, is_constraint: bool
) -> None:
    name = os.path.relpath(path, os.path.dirname(top) or ".")
    if name in contents:
        return
    contents[name] = _read(path)
    for line in _logical_lines(contents[name].decode("utf-8", "replace")):
        include = _INCLUDE.match(line)
        local = _LOCAL.match(line)
        if _EDITABLE.match(line):
            raise _own_code(path, line)
        if include is not None:
            below = os.path.join(os.path.dirname(path), include["path"])
            constrains = is_constraint or line.startswith(("-c", "--constraint"))
            _follow(below, top, contents, unpinned, is_constraint=constrains)
        elif local is not None:
            wheel = os.path.join(os.path.dirname(path), local["path"])
            if not wheel.endswith(".whl"):
                raise _own_code(path, line)
            contents[local["path"]] = _read(wheel)
        elif not line.startswith("-") and not is_constraint and not _PINNED.search(line):
            unpinned.append(line)


def _logical_lines(text: str) -> list[str]:
    joined = text.replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise EnvironmentFailed(
            f"{path}, which decides the environment, cannot be read ({error.strerror})"
        ) from None


def _own_code(path: str, line: str) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"{path}: {line!r} is a folder of own code, which changes without the lock file; send it "
        "with the payload (working_dir) or name a built wheel"
    )
