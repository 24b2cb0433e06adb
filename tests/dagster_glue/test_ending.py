from __future__ import annotations

import dagster as dg

from dagster_glue.ending import Ending
from dagster_glue.jobs.outcome import FailureKind, JobOutcome


def kept_in_attempts(
    kind: FailureKind | None, policy: dg.RetryPolicy | None, *, fails: bool = True
) -> list[bool]:
    """Whether the cluster is kept after each attempt of a step whose job ends like this."""
    found: list[bool] = []

    @dg.op(retry_policy=policy)
    def step(context):  # type: ignore[no-untyped-def]  # Dagster refuses its text
        ending = Ending(context)
        ending.outcome = JobOutcome("", kind, "", "")
        found.append(ending.leaves_running(None))
        if kind is not None and fails:
            raise dg.Failure(kind.value)

    @dg.job
    def run() -> None:
        step()

    run.execute_in_process(raise_on_error=False)
    return found


def test_the_cluster_is_kept_for_each_attempt_but_the_last() -> None:
    twice = dg.RetryPolicy(max_retries=2)
    assert kept_in_attempts(FailureKind.PAYLOAD, twice) == [True, True, False]
    assert kept_in_attempts(FailureKind.PAYLOAD, None) == [False]
    assert kept_in_attempts(None, twice) == [False]


def test_a_cluster_that_is_not_well_is_not_kept() -> None:
    for kind in (FailureKind.WALLTIME, FailureKind.NODE_FAILED, FailureKind.ENVIRONMENT):
        assert kept_in_attempts(kind, dg.RetryPolicy(max_retries=1)) == [False, False]


def test_a_retry_that_is_hours_away_keeps_no_cluster() -> None:
    policy = dg.RetryPolicy(max_retries=1, delay=7200)
    assert kept_in_attempts(FailureKind.PAYLOAD, policy, fails=False) == [False]
