from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_provider.slurm import JobState, parse_state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("RUNNING", JobState.RUNNING),
        ("R", JobState.RUNNING),
        ("running", JobState.RUNNING),
        ("CANCELLED by 1001", JobState.CANCELLED),
        ("CANCELLED+", JobState.CANCELLED),
        ("OOM", JobState.OUT_OF_MEMORY),
        ("CG", JobState.COMPLETING),
        ("REQUEUE", JobState.REQUEUED),
        ("SOMETHING_NEW", JobState.UNKNOWN),
        ("", JobState.UNKNOWN),
    ],
)
def test_states_are_read_in_every_form(text: str, state: JobState) -> None:
    assert parse_state(text) is state


def test_every_state_is_exactly_one_of_live_ending_and_terminal() -> None:
    for state in JobState:
        assert [state.is_live, state.is_ending, state.is_terminal].count(True) == 1
        assert state.is_live or not state.is_pending


@pytest.mark.parametrize(
    "state",
    [
        "RUNNING",
        "CONFIGURING",
        "SUSPENDED",
        "STOPPED",
        "RESIZING",
        "SIGNALING",
        "STAGE_OUT",
        "SPECIAL_EXIT",
        "RESV_DEL_HOLD",
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "PENDING",
    ],
)
def test_a_job_that_holds_or_may_get_a_host_is_live(state: str) -> None:
    assert JobState(state).is_live


@given(st.text())
def test_an_unknown_word_is_never_gone(text: str) -> None:
    state = parse_state(text)
    assert state.is_live or state is not JobState.UNKNOWN
