"""What the driver prints, on its way into Dagster."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable
from typing import Literal

_TAIL_BYTES = 16 * 1024
_EVENT_CHARACTERS = 8 * 1024

Stream = Literal["stdout", "stderr"]


class DriverOutput:
    """Writes to this process's streams, which Dagster keeps as the step's compute logs."""

    def __init__(self, report: Callable[[str], None] | None = None) -> None:
        """``report`` gets the same text as events, some lines each."""
        self._report = report
        self._tails: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: make("replace") for name in self._tails}

    def write(self, stream: Stream, data: bytes, *, final: bool = False) -> None:
        if not data and not final:
            return
        self._tails[stream] = (self._tails[stream] + data)[-_TAIL_BYTES:]
        # Looked up each time: Dagster and tests replace sys.stdout.
        text = self._decoders[stream].decode(data, final)
        target = sys.stdout if stream == "stdout" else sys.stderr
        target.write(text)
        target.flush()
        if self._report is not None and text.strip():
            for start in range(0, len(text), _EVENT_CHARACTERS):
                self._report(text[start : start + _EVENT_CHARACTERS].rstrip("\n"))

    def tail(self, lines: int = 30) -> str:
        """The last lines of standard error, or of standard output if there are none."""
        streams: tuple[Stream, Stream] = ("stderr", "stdout")
        for name in streams:
            text = self._tails[name].decode(errors="replace").strip("\n")
            if text.strip():
                return "\n".join(text.splitlines()[-lines:])
        return ""
