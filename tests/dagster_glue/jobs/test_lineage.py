"""What came before a step, by a real retry policy and real re-executions from failure."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from dagster_glue.jobs.lineage import attempts
from dagster_glue.jobs.step import next_call

FROM_FAILURE = {"dagster/is_resume_retry": "true"}  # as the UI and the daemon set it


@dg.op(retry_policy=dg.RetryPolicy(max_retries=2))
def train(context):  # type: ignore[no-untyped-def]
    next_call(context)
    found = [(c.run_id, c.attempt, c.call) for c in attempts(context, next_call(context))]
    if context.run.tags.get("fails") == "yes":
        raise dg.Failure("as its run says")
    return found


@dg.job(executor_def=dg.in_process_executor)
def training() -> None:
    train()


def test_a_run_from_failure_goes_on_with_all_attempts_of_the_runs_before_it(
    tmp_path: Path,
) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        job = dg.reconstructable(training)
        first = dg.execute_job(job, instance, tags={"fails": "yes"})
        again = dg.ReexecutionOptions.from_failure(first.run_id, instance)
        second = dg.execute_job(
            job, instance, reexecution_options=again, tags={**FROM_FAILURE, "fails": "yes"}
        )
        assert not second.success
        again = dg.ReexecutionOptions.from_failure(second.run_id, instance)
        tags = {**FROM_FAILURE, "fails": "no"}
        with dg.execute_job(job, instance, reexecution_options=again, tags=tags) as third:
            found = third.output_for_node("train")
        assert found == [
            (third.run_id, 0, 1),
            *((second.run_id, attempt, 1) for attempt in (2, 1, 0)),
            *((first.run_id, attempt, 1) for attempt in (2, 1, 0)),
        ]


def test_a_run_that_does_everything_anew_goes_on_with_nothing(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        job = dg.reconstructable(training)
        first = dg.execute_job(job, instance, tags={"fails": "yes"})
        options = dg.ReexecutionOptions(parent_run_id=first.run_id)
        with dg.execute_job(
            job, instance, reexecution_options=options, tags={"fails": "no"}
        ) as anew:
            assert anew.output_for_node("train") == [(anew.run_id, 0, 1)]
