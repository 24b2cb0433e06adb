"""Slurm's job ids: ``42``, array task ``111_1``, heterogeneous component ``106+1`` (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_TASK = re.compile(r"([0-9]+)_([0-9]+)")
_PART = r"[0-9]{1,7}(?:-[0-9]{1,7}(?::0*[1-9][0-9]{0,6})?)?"
_TASKS = re.compile(rf"([0-9]+)_\[({_PART}(?:,{_PART})*)(?:%[0-9]+)?\]")
_MOST_TASKS = 4_000_001  # the highest MaxArraySize that Slurm takes
_ID = re.compile(r"[0-9]+(?:_(?:[0-9]+|\[[0-9,-]+\])|\+[0-9]+)?")


def is_job_id(text: str) -> bool:
    """Whether a text is a job id, so that it can be no option and no pattern."""
    return _ID.fullmatch(text) is not None


def fold_job_ids(job_ids: Iterable[str]) -> list[str]:
    """The same jobs in fewer words: tasks of one array become ``111_[0-3,7]``, components of a
    heterogeneous job its first one, ``106+0``, which stands for all (scancel refuses others while
    it is pending)."""
    asked = dict.fromkeys(job_ids)
    whole = {job_id.removesuffix("+0") for job_id in asked if job_id.endswith("+0")}
    folded: list[str] = []
    tasks: dict[str, set[int]] = {}
    for job_id in asked:
        leader, plus, number = job_id.partition("+")
        if plus and number != "0" and leader in whole:
            continue
        match = _TASK.fullmatch(job_id)
        if match is None:
            folded.append(job_id)
        else:
            tasks.setdefault(match[1], set()).add(int(match[2]))
    for array_id, numbers in tasks.items():
        if len(numbers) == 1:
            folded.append(f"{array_id}_{numbers.pop()}")
        else:
            folded.append(f"{array_id}_[{format_ranges(numbers)}]")
    return folded


def expand_tasks(display_id: str) -> set[str]:
    """The single ids in ``2_[1-3,7%2]``; any other id is only itself."""
    match = _TASKS.fullmatch(display_id)
    if match is None:
        return {display_id}
    found: set[str] = set()
    for part in match[2].split(","):
        span, _, step = part.partition(":")
        first, _, last = span.partition("-")
        numbers = range(int(first), int(last or first) + 1, int(step or 1))
        if len(found) + len(numbers) > _MOST_TASKS:
            return {display_id}
        found.update(f"{match[1]}_{number}" for number in numbers)
    return found


def format_ranges(numbers: Iterable[int]) -> str:
    """Numbers as Slurm writes them: ``0-3,7``."""
    return ",".join(_ranges(sorted(numbers)))


def chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Consecutive parts of at most ``size`` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _ranges(numbers: Sequence[int]) -> Iterator[str]:
    start = previous = numbers[0]
    for number in [*numbers[1:], -1]:
        if number == previous + 1:
            previous = number
            continue
        yield str(start) if start == previous else f"{start}-{previous}"
        start = previous = number
