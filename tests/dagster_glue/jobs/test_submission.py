from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from dagster_glue.jobs.client import JobRecord
from dagster_glue.jobs.payload import Payload
from dagster_glue.jobs.submission import (
    DIGEST_KEY,
    Choice,
    StepCall,
    choose,
    free_id,
    payload_digest,
    submission_id,
)

RUN = "5f1f2c3a-0000-4000-8000-000000000000"


def test_an_id_names_run_step_call_and_attempt() -> None:
    assert submission_id(StepCall(RUN, "train_model", 2, 1)) == f"{RUN}-train_model-1-2"


@given(st.text(min_size=1), st.text(min_size=1))
def test_ids_are_safe_file_names_and_differ_when_steps_do(one: str, other: str) -> None:
    ids = [submission_id(StepCall(RUN, key, 0, 0)) for key in (one, other)]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,120}", name) for name in ids)
    assert (ids[0] == ids[1]) == (one == other)


def test_a_name_that_is_taken_is_numbered_on() -> None:
    call = StepCall(RUN, "a", 0, 0)
    assert free_id(call, []) == f"{RUN}-a-0-0"
    assert free_id(call, [f"{RUN}-a-0-0", f"{RUN}-a-0-0-2"]) == f"{RUN}-a-0-0-3"


def test_a_retry_adopts_what_runs_or_succeeded_and_relaunches_what_failed() -> None:
    mine = payload_digest(Payload(("a",)), None, {"lr": 1})
    other = payload_digest(Payload(("b",)), None, {"lr": 1})
    other_inputs = [
        payload_digest(Payload(("a",)), None, {"lr": 2}),
        payload_digest(Payload(("a",), env_vars={"X": "1"}), None, {"lr": 1}),
        payload_digest(Payload(("a",), runtime_env={"pip": ["x"]}), None, {"lr": 1}),
    ]

    def choice(status: str, digest: str = mine, is_complete: bool = True) -> Choice:
        record = JobRecord("x", status, metadata={DIGEST_KEY: digest})
        return choose(record, mine, is_complete=is_complete)

    assert choice("PENDING") is Choice.ADOPT
    assert choice("RUNNING") is Choice.ADOPT
    assert choice("SUCCEEDED") is Choice.ADOPT
    assert choice("FAILED") is Choice.IGNORE
    assert choice("STOPPED") is Choice.IGNORE
    assert choice("SUCCEEDED", is_complete=False) is Choice.IGNORE
    assert choice("SUCCEEDED", digest=other) is Choice.IGNORE
    assert choice("RUNNING", digest=other) is Choice.REPLACE
    for digest in other_inputs:
        assert choice("SUCCEEDED", digest=digest) is Choice.IGNORE
        assert choice("RUNNING", digest=digest) is Choice.ADOPT
