"""Intervals of time: how long they are together, how much runs at once (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Interval = tuple[float, float]
"""(start, end), epoch seconds."""


@dataclass(frozen=True)
class Window:
    """From when to when an asset ran; epoch seconds."""

    start: float
    end: float

    @property
    def length_s(self) -> float:
        return self.end - self.start

    def shifted(self, by_s: float) -> Window:
        return Window(self.start + by_s, self.end + by_s)

    def cut(self, interval: Interval) -> Interval:
        """The part of the interval that is within; one of no length if there is none."""
        start = min(max(interval[0], self.start), self.end)
        return start, max(start, min(interval[1], self.end))

    def overlap_s(self, start: float, end: float) -> float:
        start, end = self.cut((start, end))
        return end - start


def covered_s(intervals: Iterable[Interval]) -> float:
    """Seconds that lie in at least one of the intervals."""
    ordered = sorted(intervals)
    if not ordered:
        return 0.0
    first = until = ordered[0][0]
    gaps_s = 0.0
    for start, end in ordered:
        gaps_s += max(0.0, start - until)
        until = max(until, end)
    return until - first - gaps_s


def most_at_once(amounts: Iterable[tuple[Interval, int]]) -> int:
    """The greatest sum of the amounts of intervals that share a point in time."""
    changes: list[tuple[float, int]] = []
    for (start, end), amount in amounts:
        changes += [(start, amount), (end, -amount)]
    most = now = 0
    for _, change in sorted(changes):  # at one instant, ends come before starts
        now += change
        most = max(most, now)
    return most
