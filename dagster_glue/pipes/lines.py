"""Bytes into whole lines, and lines of a log into Pipes messages and the rest (pure)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

MARKER = b'{"__dagster_pipes_version"'
"""How every message begins: dagster_pipes writes the version first."""


class LineBuffer:
    """Whole lines only; the rest is kept until its end has come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends."""
        head, newline, rest = data.rpartition(b"\n")
        if not newline:
            if data:
                self._parts.append(data)
            return []
        lines = b"".join([*self._parts, head]).split(b"\n")
        self._parts = [rest] if rest else []
        return lines

    def flush(self) -> bytes:
        """What was kept; to be called when nothing more can come."""
        rest, self._parts = b"".join(self._parts), []
        return rest


@dataclass
class Split:
    """A piece of a log, taken apart."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    text: bytes = b""
    broken: list[bytes] = field(default_factory=list)
    """Begins like a message and is none: something else was written into it."""


class LogSplitter:
    """Finds messages in a log that other programs write to as well.

    A message may follow a progress bar on the same line, and other output may stand between a
    message and its line end, which are separate writes. A message has no line end inside.
    """

    def __init__(self) -> None:
        self._held = b""  # from the start of a message on, or what may become one
        self._searched = 0

    def feed(self, data: bytes) -> Split:
        self._held += data
        split = Split()
        while True:
            start = self._held.find(MARKER)
            if start < 0:
                kept = _marker_prefix(self._held)
                split.text += self._held[: len(self._held) - kept]
                self._held, self._searched = self._held[len(self._held) - kept :], 0
                return split
            split.text += self._held[:start]
            self._held = self._held[start:]
            end = self._held.find(b"\n", 0 if start else self._searched)
            if end < 0:
                self._searched = len(self._held)
                return split
            self._take(end, split)

    def flush(self) -> Split:
        """The rest; to be called when nothing more can come."""
        split = Split()
        while MARKER in self._held:
            start = self._held.find(MARKER)
            split.text += self._held[:start]
            self._held = self._held[start:]
            self._take(len(self._held), split)
        split.text += self._held
        self._held, self._searched = b"", 0
        return split

    def _take(self, end: int, split: Split) -> None:
        """The message that the held bytes begin with, and that ends before ``end``."""
        line = self._held[:end].decode(errors="surrogateescape")
        try:
            message, length = json.JSONDecoder().raw_decode(line)
        except ValueError:
            split.broken.append(self._held[:end])
            rest = self._held[end + 1 :]
        else:
            split.messages.append(message)
            after = line[length:].encode(errors="surrogateescape")
            # Its own line end goes with it, unless somebody else's text came in between.
            rest = (after + self._held[end:]) if after else self._held[end + 1 :]
        self._held, self._searched = rest, 0


def _marker_prefix(data: bytes) -> int:
    """How many bytes at the end may be the beginning of a message."""
    for length in range(min(len(MARKER) - 1, len(data)), 0, -1):
        if data.endswith(MARKER[:length]):
            return length
    return 0
