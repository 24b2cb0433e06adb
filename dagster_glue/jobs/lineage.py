"""Which attempts of a step came before: in its run, and in the runs that this one retries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dagster import AssetExecutionContext, DagsterEventType, DagsterRun, OpExecutionContext

from dagster_glue.jobs.submission import StepCall

Context = AssetExecutionContext | OpExecutionContext
_FROM_FAILURE = ("dagster/is_resume_retry", "dagster/is_asset_resume_retry")


def attempts(context: Context, call: StepCall) -> Iterator[StepCall]:
    """The same call in all attempts of the step, this one included, the latest first."""
    for attempt in range(call.attempt, -1, -1):
        yield replace(call, attempt=attempt)
    for run_id in retried_runs(context):
        for attempt in range(_restarts(context, run_id, call.step_key), -1, -1):
            yield replace(call, run_id=run_id, attempt=attempt)


def retried_runs(context: Context) -> list[str]:
    """Ids of the runs that this one goes on with "from failure", the latest first.

    A run that does everything anew goes on with nothing.
    """
    found: list[str] = []
    run: DagsterRun | None = context.run
    while run is not None and any(run.tags.get(tag) == "true" for tag in _FROM_FAILURE):
        parent = run.parent_run_id
        if parent is None or parent in found:
            break
        found.append(parent)
        run = context.instance.get_run_by_id(parent)
    return found


def _restarts(context: Context, run_id: str, step_key: str) -> int:
    """How often a RetryPolicy started the step again in that run."""
    entries = context.instance.all_logs(run_id, of_type=DagsterEventType.STEP_RESTARTED)
    return sum(entry.step_key == step_key for entry in entries)
