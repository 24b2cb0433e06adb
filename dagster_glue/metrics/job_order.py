"""The order in which people expect Slurm's job ids (pure)."""

from __future__ import annotations

import re


def job_order(job_id: str) -> tuple[str | int, ...]:
    """A key to sort by: 9 before 70, 70 before its array's task 70_0, 70_2 before 70_10."""
    # Numbers stand at the odd places of every key, so words never meet them.
    return tuple(int(p) if p.isdecimal() else p for p in re.split(r"([0-9]+)", job_id))
