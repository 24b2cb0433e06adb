"""What a worker says when Slurm tells it to leave."""

from __future__ import annotations

import pytest

from slurm_provider.agent.worker import drain_reason

NOW, LEAD_S = 1_800_000_000.0, 90.0


@pytest.mark.parametrize(
    ("end_time", "word", "left_s"),
    [
        (NOW + 90, "time limit is near", 85),
        (NOW + 180, "time limit is near", 175),  # the signal may come a minute early
        (NOW + 3, "time limit is near", 5),
        (NOW + 7200, "preemption", 85),
        (None, "announced", 85),
    ],
)
def test_it_says_what_it_knows(end_time: float | None, word: str, left_s: int) -> None:
    why, remaining_s = drain_reason(end_time, NOW, LEAD_S)
    assert word in why
    assert remaining_s == left_s
