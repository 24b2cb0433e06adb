"""How often to look while something waits: often at first, seldom in a wait of days.

Budget of each waiting command: at most 120 ``squeue`` in its first hour and 60 in each further one,
and after the first minute nothing on the shared folder more often than every 0.5 s.
"""

from __future__ import annotations

import time

_QUEUE_S = (2.0, 60.0)  # a job may start in a second; Slurm plans in minutes
_FOLDER_S = (0.05, 1.0)  # a listing of one folder, over SSH one round trip


class Pace:
    """Of one wait, which begins now."""

    def __init__(self, *, asks_at_once: bool = False) -> None:
        self._begin = time.monotonic()
        self._next_listing = self._begin + (0 if asks_at_once else queue_interval_s(0))

    def is_queue_due(self) -> bool:
        """Whether to ask the queue; then say so with :meth:`asked_queue`."""
        return time.monotonic() >= self._next_listing

    def asked_queue(self) -> None:
        self._next_listing = time.monotonic() + queue_interval_s(self._waited_s)

    def sleep(self) -> None:
        """Until the cluster's folder may be looked at again."""
        time.sleep(folder_interval_s(self._waited_s))

    @property
    def _waited_s(self) -> float:
        return time.monotonic() - self._begin


def queue_interval_s(waited_s: float) -> float:
    """Seconds between two questions to the queue after a wait of ``waited_s``."""
    return _between(waited_s / 10, *_QUEUE_S)


def folder_interval_s(waited_s: float) -> float:
    """Seconds between two looks at the cluster's folder after a wait of ``waited_s``."""
    return _between(waited_s / 120, *_FOLDER_S)


def _between(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))
