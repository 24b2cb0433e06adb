"""Dagster's own record of launches, through a real re-execution from failure."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from dagster_glue.jobs.handles import find_launched, record_adoption, record_launch


@dg.op
def train(context):  # type: ignore[no-untyped-def]
    found = find_launched(context, 0)
    if "is_first" in context.run.tags and context.run.parent_run_id is None:
        record_launch(context, "the-first-job", 0)
        record_launch(context, "its-second-call", 1)
        raise dg.Failure("the step fails and its job runs on")
    record_adoption(context, "the-first-job", 0)
    return str(found)


@dg.job(executor_def=dg.in_process_executor)
def training() -> None:
    train()


def test_a_run_that_retries_another_from_failure_finds_its_job(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        job = dg.reconstructable(training)
        first = dg.execute_job(job, instance, tags={"is_first": "yes"})
        assert not first.success
        options = dg.ReexecutionOptions.from_failure(first.run_id, instance)
        tags = {"dagster/is_resume_retry": "true"}  # as the UI and the daemon set it
        with dg.execute_job(job, instance, reexecution_options=options, tags=tags) as retry:
            assert retry.output_for_node("train") == "the-first-job"
        with dg.execute_job(job, instance) as another:  # not a retry of anything
            assert another.output_for_node("train") == "None"
