"""What follows when a step's part in a cluster is over."""

from __future__ import annotations

import dagster as dg

from dagster_glue.jobs.lineage import Context
from dagster_glue.jobs.outcome import FailureKind, JobOutcome
from dagster_glue.jobs.step import CancelWatch, is_direct, is_tried_again

_KEPT_WARM_S = 600.0
_CLUSTER_IS_WELL = (FailureKind.PAYLOAD, FailureKind.OUT_OF_MEMORY)


class Ending:
    """Decides whether a cluster of one step outlives this attempt of it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.outcome: JobOutcome | None = None
        """Of the job, once it is known."""

    def leaves_running(self, error: BaseException | None) -> bool:
        """Whether somebody goes on with the cluster; ``error`` is None after the job's end."""
        if error is None:
            failed = self.outcome is not None and self.outcome.kind in _CLUSTER_IS_WELL
            return failed and is_tried_again(self._context, _KEPT_WARM_S)
        interrupts = (dg.DagsterExecutionInterruptedError, KeyboardInterrupt)
        if not isinstance(error, interrupts) or is_direct(self._context):
            return False
        return not CancelWatch(self._context).was_cancelled()
