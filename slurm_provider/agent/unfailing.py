"""Saying what happens, where that may fail: a log or report that cannot be written (the shared
folder is full, say) neither ends nor delays a node.
"""

from __future__ import annotations

import json
from typing import Any, TextIO

from slurm_provider.agent.files import write_text


class UnfailingStream:
    """A text stream whose lines may be lost. What the stream itself still holds comes later."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Told:
    """Files that tell others: what cannot be written now is written by :meth:`again`."""

    def __init__(self) -> None:
        self._untold: dict[str, str] = {}

    def tell(self, path: str, text: str) -> None:
        """Write the whole file, now or later."""
        try:
            write_text(path, text)
        except OSError as error:
            if path not in self._untold:
                print(f"[agent] {path} cannot be written: {error.strerror or error}", flush=True)
            self._untold[path] = text
        else:
            self._untold.pop(path, None)

    def tell_json(self, path: str, value: Any) -> None:
        self.tell(path, json.dumps(value, indent=1))

    def again(self) -> None:
        """To be called every few seconds while the folder exists: it would be made anew."""
        for path, text in list(self._untold.items()):
            self.tell(path, text)

    def forget(self, path: str) -> None:
        """What it said is true no longer."""
        self._untold.pop(path, None)
