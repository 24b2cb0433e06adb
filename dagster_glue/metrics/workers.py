"""How many workers there were over time, from accounting, drawn as a small picture."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Sequence

import dagster as dg

from slurm_provider.slurm import JobRecord

Sample = tuple[float, int]
"""(epoch seconds, workers from then on)."""

_WIDTH, _HEIGHT = 480, 140
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 28, 10, 28
"""Room for the labels: "10000" on the left, half of "100 min" on the right."""
_MOST_TIMES, _MOST_COUNTS = 6, 5
"""Ticks beyond zero: what fits."""


def samples_of_jobs(workers: Iterable[JobRecord], start: float, end: float) -> list[Sample]:
    """Workers whose jobs ran, between two points in time."""
    changes: list[Sample] = []
    for record in workers:
        if record.start_time is None:
            continue
        over = end if record.end_time is None else record.end_time
        if over <= max(start, record.start_time) or record.start_time >= end:
            continue
        changes.append((max(start, record.start_time), 1))
        if over < end:
            changes.append((over, -1))
    samples = [(start, 0)]
    for when, change in sorted(changes):
        samples.append((when, samples[-1][1] + change))
    return [*samples, (end, samples[-1][1])]


def worker_plot(samples: Sequence[Sample]) -> dg.MarkdownMetadataValue:
    """The samples as a picture in Markdown; in words if there are none."""
    if not samples:
        return dg.MetadataValue.md("Number of workers over time: unknown")
    picture = base64.b64encode(worker_svg(samples).encode()).decode()
    most = max(count for _, count in samples)
    return dg.MetadataValue.md(
        f"![workers over time, at most {most}](data:image/svg+xml;base64,{picture})"
    )


def worker_svg(samples: Sequence[Sample]) -> str:
    """A step line of the number of workers over the time since the first sample."""
    start, end = samples[0][0], samples[-1][0]
    span_s = max(end - start, 1.0)
    most = max(count for _, count in samples)
    step = max(1, round(round_step(most, _MOST_COUNTS)))
    top = step * max(1, math.ceil(most / step))

    def x(when: float) -> float:
        return _LEFT + (when - start) / span_s * (_WIDTH - _LEFT - _RIGHT)

    def y(count: int) -> float:
        return _HEIGHT - _BOTTOM - count / top * (_HEIGHT - _TOP - _BOTTOM)

    path = f"M{x(start):.1f},{y(samples[0][1]):.1f}"
    last = samples[0][1]
    for when, count in samples[1:]:
        if count != last:
            path += f"H{x(when):.1f}V{y(count):.1f}"
            last = count
    path += f"H{x(end):.1f}"

    lines, words = [], []
    for count in range(0, top + 1, step):
        level = f"{y(count):.1f}"
        lines.append(f"M{_LEFT},{level}H{_WIDTH - _RIGHT}")
        words.append(_text(_LEFT - 6, y(count) + 4, "end", str(count)))
    unit, unit_s = _time_unit(span_s)
    tick = round_step(span_s / unit_s, _MOST_TIMES)
    floor = _HEIGHT - _BOTTOM
    for number in range(int(span_s / unit_s / tick + 1e-6) + 1):
        at = x(start + number * tick * unit_s)
        lines.append(f"M{at:.1f},{floor}v4")
        words.append(_text(at, floor + 16, "middle", f"{number * tick:g} {unit}"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11">'
        # A ground of its own: the UI may be dark.
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
        f'<path d="{"".join(lines)}" stroke="#ddd" fill="none"/>'
        f'<path d="{path}" stroke="#1f77b4" stroke-width="2" fill="none"/>'
        f"{''.join(words)}</svg>"
    )


def round_step(span: float, most: int) -> float:
    """The least of 1, 2 and 5 times a power of ten that divides ``span`` in at most ``most``."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    # Floats are not exact: 0.3 is 3 steps of 0.1.
    return next(n * power for n in (1, 2, 5, 10) if span / (n * power) <= most + 1e-6)


def _text(x: float, y: float, anchor: str, words: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#555">'
        f"{html.escape(words)}</text>"
    )


def _time_unit(span_s: float) -> tuple[str, float]:
    if span_s < 120:
        return "s", 1.0
    return ("min", 60.0) if span_s < 7200 else ("h", 3600.0)
