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
_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 12, 10, 28
_TICKS = 4


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
    step = max(1, math.ceil(max(count for _, count in samples) / _TICKS))
    top = step * max(1, math.ceil(max(count for _, count in samples) / step))

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
    for tick in range(_TICKS + 1):
        when = start + span_s * tick / _TICKS
        words.append(_text(x(when), _HEIGHT - _BOTTOM + 16, "middle",
                           f"{span_s * tick / _TICKS / unit_s:.3g} {unit}"))  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11">'
        # A ground of its own: the UI may be dark.
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
        f'<path d="{"".join(lines)}" stroke="#ddd" fill="none"/>'
        f'<path d="{path}" stroke="#1f77b4" stroke-width="2" fill="none"/>'
        f"{''.join(words)}</svg>"
    )


def _text(x: float, y: float, anchor: str, words: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#555">'
        f"{html.escape(words)}</text>"
    )


def _time_unit(span_s: float) -> tuple[str, float]:
    if span_s < 120:
        return "s", 1.0
    return ("min", 60.0) if span_s < 7200 else ("h", 3600.0)
