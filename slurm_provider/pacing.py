"""How often to look while something waits (pure): often at first, seldom in a wait of days.

Budget of each waiting command: at most 120 ``squeue`` in its first hour and 60 in each further one,
and after the first minute nothing on the shared folder more often than every 0.5 s.
"""

from __future__ import annotations

_QUEUE_S = (2.0, 60.0)  # a job may start in a second; Slurm plans in minutes
_FOLDER_S = (0.05, 1.0)  # a listing of one folder, over SSH one round trip


def queue_interval_s(waited_s: float) -> float:
    """Seconds until the queue is asked again, after a wait of so long."""
    return _between(waited_s / 10, *_QUEUE_S)


def folder_interval_s(waited_s: float) -> float:
    """Seconds until the cluster's folder is looked at again, after a wait of so long."""
    return _between(waited_s / 120, *_FOLDER_S)


def _between(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))
