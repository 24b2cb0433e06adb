from __future__ import annotations

from dagster_glue.metrics import job_order


def test_job_ids_are_in_the_order_in_which_people_count() -> None:
    ids = ["73_10", "100", "73_1", "73+1", "9", "73_[11-12]", "73_0", "70", "73"]
    expected = ["9", "70", "73", "73+1", "73_0", "73_1", "73_10", "73_[11-12]", "100"]
    assert sorted(ids, key=job_order) == expected
