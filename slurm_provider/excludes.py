"""What a copied folder leaves out: ``rsync_exclude`` and ``rsync_filter`` of the cluster YAML.

Ray hands them to rsync, which compute hosts cannot be reached by; the patterns mean the same here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any


@dataclass(frozen=True)
class Excludes:
    """``patterns`` count from the copied folder; files named as in ``filters``, in it or below,
    hold more patterns, which count from where the file is (as ``.gitignore`` does)."""

    patterns: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Excludes:
        """From a cluster configuration, or the options Ray makes of it."""
        given = (options.get("rsync_exclude") or [], options.get("rsync_filter") or [])
        return cls(*(tuple([value] if isinstance(value, str) else value) for value in given))

    def below(self, root: str) -> Callable[[str], bool]:
        """For one copy of the folder ``root``: whether a path, relative to it, stays behind.

        What is below a folder that stays behind is not to be asked for.
        """
        lines = cache(_lines)  # each file of patterns counts for all that lies below it

        def stays_behind(path: str) -> bool:
            full = os.path.join(root, path)
            is_folder = os.path.isdir(full) and not os.path.islink(full)
            rules = self._rules(root, path, lines)
            return any(_matches(pattern, rest, is_folder) for pattern, rest in rules)

        return stays_behind

    def _rules(
        self, root: str, path: str, lines: Callable[[str], list[str]]
    ) -> Iterator[tuple[str, str]]:
        """Every pattern that has a say, with the path as seen from where it counts from."""
        for pattern in self.patterns:
            yield pattern, path
        parts = path.split("/")
        for depth in range(len(parts)):
            rest = "/".join(parts[depth:])
            for name in self.filters:
                for pattern in lines(os.path.join(root, *parts[:depth], name)):
                    yield pattern, rest


def _matches(pattern: str, path: str, is_folder: bool) -> bool:
    if pattern.endswith("/") and not is_folder:
        return False
    return _regex(pattern.rstrip("/")).fullmatch(path) is not None


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> re.Pattern[str]:
    """A leading slash holds it to the top; otherwise it may begin at any component."""
    anchor = "" if pattern.startswith("/") else "(?:.*/)?"
    plain = pattern.removeprefix("/").removeprefix("**/")
    tokens = re.findall(r"\\.|\*\*|\[!?\]?[^\]]*\]|.", plain)
    try:
        return re.compile(anchor + "".join(map(_token, tokens)))
    except re.error:  # a class that is none, `[z-a]`
        return re.compile(anchor + re.escape(plain))


def _token(token: str) -> str:
    if token in _WILDCARDS:
        return _WILDCARDS[token]
    if len(token) > 1 and token[0] == "\\":
        return re.escape(token[1])
    if len(token) > 2 and token[0] == "[":
        return f"[^{token[2:]}" if token[1] == "!" else token
    return re.escape(token)


_WILDCARDS = {"**": ".*", "*": "[^/]*", "?": "[^/]"}


def _lines(path: str) -> list[str]:
    try:
        with open(path, errors="surrogateescape") as file:  # as names of files are read
            lines = [line.strip() for line in file]
    except FileNotFoundError:
        return []
    return [line for line in lines if line and line[0] not in "#;"]
