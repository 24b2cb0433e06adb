from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from slurm_provider.slurm.job_ids import expand_tasks, fold_job_ids, format_ranges, is_job_id


def test_tasks_of_an_array_become_one_word_and_other_ids_stay() -> None:
    ids = ["7", "111_0", "111_1", "111_3", "106+1", "111_2", "112_5", "111_7", "7"]
    assert fold_job_ids(ids) == ["7", "106+1", "111_[0-3,7]", "112_5"]


def test_the_first_component_stands_for_its_whole_job() -> None:
    assert fold_job_ids(["7", "106+1", "106+0", "106+2", "9+1"]) == ["7", "106+0", "9+1"]


def test_numbers_become_ranges() -> None:
    assert format_ranges([3, 1, 2, 9]) == "1-3,9"


def test_sacct_writes_tasks_that_never_started_as_a_range_with_a_step_and_a_limit() -> None:
    assert expand_tasks("2_[1-3,7%2]") == {"2_1", "2_2", "2_3", "2_7"}
    assert expand_tasks("2_[0-4:2]") == {"2_0", "2_2", "2_4"}
    assert expand_tasks("2_5") == {"2_5"}
    assert expand_tasks("24+1") == {"24+1"}


def test_only_job_ids_are_job_ids() -> None:
    assert all(is_job_id(text) for text in ("1", "1_2", "1+2", "1_[0-3,7]"))
    assert not any(is_job_id(text) for text in ("", "-u", "--user=root", "abc", "1;2", "1 2"))


@given(st.sets(st.integers(0, 400), min_size=1))
def test_folded_tasks_are_the_same_tasks(tasks: set[int]) -> None:
    (word,) = fold_job_ids(f"9_{task}" for task in tasks)
    assert is_job_id(word)
    assert expand_tasks(word) == {f"9_{task}" for task in tasks}
