"""Collect the end of an output stream while something else is going on."""

from __future__ import annotations

import threading
from collections.abc import Callable

TAIL_BYTES = 64 * 1024
_READ_BYTES = 32 * 1024


class Tail:
    """Reads a stream to its end in a daemon thread and keeps its last ``TAIL_BYTES`` bytes."""

    def __init__(self, read: Callable[[int], bytes], on_end: Callable[[], None]) -> None:
        """``read(n)`` blocks and returns ``b""`` at the end; ``on_end`` is called after that."""
        self._read = read
        self._on_end = on_end
        self._kept = bytearray()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._collect, name="stderr-tail", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """What is kept so far."""
        with self._lock:
            return bytes(self._kept).decode("utf-8", "replace")

    def join(self, timeout_s: float) -> None:
        """Wait until the stream has ended, at most ``timeout_s`` seconds."""
        self._thread.join(timeout_s)

    def _collect(self) -> None:
        try:
            while chunk := self._read(_READ_BYTES):
                with self._lock:
                    self._kept += chunk
                    del self._kept[:-TAIL_BYTES]
        except (OSError, ValueError):
            pass  # the stream was closed under us: that is its end
        finally:
            self._on_end()
