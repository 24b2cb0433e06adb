from __future__ import annotations

import pytest

from dagster_glue.metrics.intervals import Interval, Window, covered_s, most_at_once


@pytest.mark.parametrize(
    ("intervals", "seconds"),
    [
        ([], 0),
        ([(10, 30)], 20),
        ([(10, 30), (20, 50)], 40),
        ([(10, 100), (20, 50)], 90),
        ([(60, 70), (10, 30)], 30),
        ([(10, 30), (30, 40)], 30),
    ],
)
def test_time_that_several_intervals_cover_counts_once_and_gaps_not(
    intervals: list[Interval], seconds: float
) -> None:
    assert covered_s(intervals) == seconds


def test_a_window_cuts_what_is_outside() -> None:
    window = Window(100, 200)
    assert window.cut((50, 150)) == (100, 150)
    assert window.cut((150, 250)) == (150, 200)
    assert [window.overlap_s(*each) for each in ((50, 90), (210, 300), (0, 300))] == [0, 0, 100]


def test_what_ends_as_another_starts_is_not_there_at_once() -> None:
    assert most_at_once([((0, 10), 2), ((10, 20), 3), ((15, 30), 1)]) == 4
