"""Lines of the result: figures, ratios, a table for people and a dictionary for JSON (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Line:
    """One row: what was measured here and, if there is one, for the bare commands or the peer."""

    item: str
    """Letter of the item, ``a`` to ``h``."""
    what: str
    ours: tuple[float, ...]
    """One value per repeat."""
    bare: tuple[float, ...] = ()
    unit: str = "s"
    aim_ratio: float | None = None
    """At most this many times the bare value."""
    aim_value: float | None = None
    """At most this value."""

    @property
    def ratio(self) -> float | None:
        """Median over median; None without something to compare with."""
        if not self.ours or not self.bare or median(self.bare) == 0:
            return None
        return median(self.ours) / median(self.bare)

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached; None without an aim."""
        if self.aim_ratio is not None and self.ratio is not None:
            return self.ratio <= self.aim_ratio
        if self.aim_value is not None and self.ours:
            return median(self.ours) <= self.aim_value
        return None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the values as measured and what follows from them."""
        return {
            "item": self.item,
            "what": self.what,
            "unit": self.unit,
            "ours": list(self.ours),
            "bare": list(self.bare),
            "ours_median": median(self.ours) if self.ours else None,
            "bare_median": median(self.bare) if self.bare else None,
            "ratio": self.ratio,
            "aim_ratio": self.aim_ratio,
            "aim_value": self.aim_value,
            "reached": self.reached,
        }


@dataclass(frozen=True)
class Findings:
    """What one item measured."""

    lines: tuple[Line, ...]
    phases: Mapping[str, Sequence[Mapping[str, float]]]
    """Where the time went: per side one dictionary of named moments per repeat, in seconds since
    the start."""


def at(repeats: Sequence[Mapping[str, float]], moment: str) -> tuple[float, ...]:
    """That moment of every repeat."""
    return tuple(moments[moment] for moments in repeats)


def table(lines: Sequence[Line]) -> Table:
    """The result as people read it: medians, with the range behind them."""
    result = Table(title="Medians (smallest - largest)", title_justify="left")
    for heading in ("", "what", "ours", "against", "ratio", "aim", ""):
        result.add_column(heading, justify="left" if heading in ("", "what") else "right")
    previous = None
    for line in lines:
        if previous is not None and line.item != previous:
            result.add_section()
        result.add_row(
            line.item if line.item != previous else "",
            line.what,
            spread(line.ours, line.unit),
            spread(line.bare, line.unit),
            "" if line.ratio is None else f"{line.ratio:.2f}x",
            _aim(line),
            {True: "ok", False: "missed", None: ""}[line.reached],
        )
        previous = line.item
    return result


def phase_table(findings: Findings, title: str) -> Table:
    """Median moments of each side, in the order in which they come."""
    result = Table(title=f"{title} (median seconds since the start)", title_justify="left")
    result.add_column("side")
    result.add_column("moments")
    for side, repeats in findings.phases.items():
        moments = medians(repeats)
        result.add_row(
            side, "  ->  ".join(f"{name} {value:.2f}" for name, value in moments.items())
        )
    return result


def medians(repeats: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Median of each moment over those repeats that have it, earliest first."""
    names = dict.fromkeys(name for moments in repeats for name in moments)
    found = {name: median(m[name] for m in repeats if name in m) for name in names}
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def spread(values: Sequence[float], unit: str) -> str:
    """``4.21 s (4.02 - 5.30)``; nothing for no values."""
    if not values:
        return ""
    words = f"{_figure(median(values))} {unit}".rstrip()
    if len(values) > 1:
        words += f" ({_figure(min(values))} - {_figure(max(values))})"
    return words


def _aim(line: Line) -> str:
    if line.aim_ratio is not None:
        return f"<= {line.aim_ratio:g}x"
    return "" if line.aim_value is None else f"<= {line.aim_value:g} {line.unit}".rstrip()


def _figure(value: float) -> str:
    if value == int(value):
        return str(int(value))
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
