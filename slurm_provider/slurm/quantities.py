"""Slurm's notations for memory, time spans and generic resources, as plain numbers.

Sources: `man sbatch` and `man squeue` 22.05; what sbatch 22.05 accepts was tried one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MEMORY_FORMS = "megabytes as a number, or a number with K, M, G or T (4000, 4000M, 4G)"
TIME_FORMS = (
    '"minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours", '
    '"days-hours:minutes", "days-hours:minutes:seconds" or "UNLIMITED"'
)
GRES_FORMS = '"name", "name:count" or "name:type:count", several joined by commas (gpu:a100:2)'


@dataclass(frozen=True)
class Gres:
    """One generic resource: ``gpu:a100:2`` is ``Gres("gpu", "a100", 2)``."""

    name: str
    type: str | None
    count: int


def parse_memory_mb(text: str) -> int:
    """Mebibytes of a Slurm memory size; kilobytes are rounded up, as Slurm does.

    Zero is a special case of ``--mem``: all memory of the host. Raises ValueError.
    """
    match = _MEMORY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a memory size; allowed: {MEMORY_FORMS}")
    number, unit = int(match["number"]), match["unit"].upper()
    if unit == "K":
        return -(-number // 1024)
    return number * {"": 1, "M": 1, "G": 1024, "T": 1024 * 1024}[unit]


def parse_time_s(text: str) -> int | None:
    """Seconds of a Slurm time span; None means unlimited (also ``0``, as for ``--time``).

    A bare number is minutes. Raises ValueError.
    """
    value = text.strip()
    if value.upper() in ("UNLIMITED", "INFINITE", "-1"):
        return None
    match = _TIME.fullmatch(value)
    if match is None:
        raise ValueError(f"{text!r} is not a time span; allowed: {TIME_FORMS}")
    parts = [int(part) for part in match["clock"].split(":")]
    if match["days"] is not None:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:  # minutes[:seconds]
        hours, (minutes, seconds) = 0, (*parts, 0)[:2]
    total_s = ((int(match["days"] or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    return total_s or None


def time_text(seconds: int) -> str:
    """A time span as sbatch takes it: ``1-02:03:04`` or ``02:03:04``."""
    days, rest = divmod(seconds, 86400)
    hours, rest = divmod(rest, 3600)
    clock = f"{hours:02}:{rest // 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def parse_gres(text: str) -> list[Gres]:
    """The resources of a gres list in any form Slurm prints or takes.

    Reads ``gpu``, ``gpu:2``, ``gpu:a100``, ``gpu:a100:2``, ``gres/gpu:a100=2`` (TRES),
    ``gres:gpu:1`` (squeue before 23.11) and ``gpu:a100:2(S:0-1)`` or ``(IDX:0,3)``; empty,
    ``(null)``, ``N/A`` and ``none`` are no resource. Entries of a TRES list that are no gres
    (``cpu=4``) are left out. Raises ValueError.
    """
    stripped = text.strip()
    if stripped.lower() in ("", "(null)", "n/a", "none"):
        return []
    found = []
    for entry in _PLACES.sub("", stripped).split(","):
        gres = _parse_gres_entry(entry.strip(), text)
        if gres is not None:
            found.append(gres)
    return found


def _parse_gres_entry(entry: str, text: str) -> Gres | None:
    key, equals, amount = entry.partition("=")
    if equals and not key.startswith("gres/"):
        return None
    key = key.removeprefix("gres/").removeprefix("gres:")
    parts = [part for part in key.split(":") if part not in ("(null)", "no_consume")]
    if equals:
        parts.append(amount)
    elif len(parts) == 1 or (len(parts) == 2 and not _COUNT.fullmatch(parts[1])):
        parts.append("1")
    count = _COUNT.fullmatch(parts[-1])
    names = parts[:-1]
    if count is None or len(names) not in (1, 2) or not all(map(_NAME.fullmatch, names)):
        raise ValueError(f"{text!r} is not a list of generic resources; allowed: {GRES_FORMS}")
    factor: int = 1024 ** " KMGTP".index(count["unit"].upper() or " ")
    return Gres(names[0], names[1] if len(names) == 2 else None, int(count["number"]) * factor)


_MEMORY = re.compile(r"(?P<number>[0-9]+)(?P<unit>[KMGTkmgt]?)(?:(?<=[KMGTkmgt])[Bb])?")
_TIME = re.compile(r"(?:(?P<days>[0-9]+)-)?(?P<clock>[0-9]+(?::[0-9]+){0,2})")
_PLACES = re.compile(r"\((?!null\))[^)]*\)")
_COUNT = re.compile(r"(?P<number>[0-9]+)(?P<unit>[KMGTPkmgtp]?)")
_NAME = re.compile(r"[A-Za-z0-9_.+/-]+")
