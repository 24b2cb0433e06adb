"""Dagster's own record of what a step launched, where this version of Dagster keeps one.

It leads from a run that was started by "re-execute from failure" to the run before it. Private in
Dagster 1.13, hence the guard: without it only attempts of the same run are found again.
"""

from __future__ import annotations

from typing import Any

from dagster import AssetExecutionContext, DagsterRun, OpExecutionContext

Context = AssetExecutionContext | OpExecutionContext
_CLIENT = "dagster_glue"
_FROM_FAILURE = ("dagster/is_resume_retry", "dagster/is_asset_resume_retry")


def record_launch(context: Context, submission_id: str, call: int) -> None:
    """Note it in the event log, for the next run."""
    reattach = _reattach()
    if reattach is not None:
        reattach.record_external_launch(
            context, client_name=f"{_CLIENT}/{call}", external_run_id=submission_id
        )


def record_adoption(context: Context, submission_id: str, call: int) -> None:
    """Note that this run goes on with a job of an earlier one."""
    reattach = _reattach()
    if reattach is None:
        return
    handle = reattach.find_latest_launch_handle(context, client_name=f"{_CLIENT}/{call}")
    if handle is not None and handle.external_run_id == submission_id:
        reattach.record_external_reattach(context, handle)


def find_launched(context: Context, call: int) -> str | None:
    """The submission id that this step used last, in this run or one that it retries."""
    reattach = _reattach()
    if reattach is None:
        return None
    handle = reattach.find_latest_launch_handle(context, client_name=f"{_CLIENT}/{call}")
    return None if handle is None else str(handle.external_run_id)


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


def _reattach() -> Any:
    try:
        from dagster._core.pipes import reattach
    except ImportError:
        return None
    needed = ("record_external_launch", "record_external_reattach", "find_latest_launch_handle")
    return reattach if all(hasattr(reattach, name) for name in needed) else None
