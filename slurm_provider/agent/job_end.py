"""When and why Slurm ends a node's job, as far as the node can know.

The signal before the time limit and the one before a preemption are the same, and an administrator
may change the limit of a running job.
"""

from __future__ import annotations

from dataclasses import dataclass

_SIGNAL_EARLY_S = 120.0  # slurmctld checks once a minute, and may signal so much earlier
_ASK_TIMEOUT_S = 5.0  # the agent does nothing else meanwhile
_CUT_S = 60.0  # Slurm's times may differ by a little from what it granted


@dataclass(frozen=True)
class JobEnd:
    """In epoch seconds; None where that is not known."""

    time: float | None
    limit: float | None = None
    """The end by the time limit as it is now."""

    def is_doubtful(self, now: float, lead_s: float) -> bool:
        """Whether a signal ``lead_s`` seconds before the end would not come now."""
        return self.time is None or not lead_s / 4 <= self.time - now <= lead_s + _SIGNAL_EARLY_S


def ask_end(job_id: str) -> JobEnd | None:
    """What Slurm says now; None if it does not, or may not be asked from here."""
    from slurm_provider.slurm import SlurmClient, SlurmError
    from slurm_provider.transport import LocalTransport

    try:
        jobs = SlurmClient(LocalTransport(), timeout_s=_ASK_TIMEOUT_S).queue(job_id)
    except (SlurmError, OSError):
        return None
    for job in jobs:
        if job.raw_id == job_id:
            known = job.start_time is not None and job.time_limit_s is not None
            limit = (job.start_time or 0.0) + (job.time_limit_s or 0) if known else None
            return JobEnd(job.end_time, limit)
    return None


def drain_reason(end: JobEnd, now: float, lead_s: float) -> tuple[str, int]:
    """Why Slurm signalled, as far as is known, and the seconds that the node's work has (pure)."""
    left_s = lead_s if end.time is None else end.time - now
    if end.time is None:
        why = "Slurm announced the end of its job"
    elif left_s <= 0:  # the limit was lengthened
        why, left_s = "its time limit is near", lead_s
    elif left_s > lead_s + _SIGNAL_EARLY_S:
        why = "Slurm ends its job before its time limit (preemption, or the limit was changed)"
        left_s = lead_s
    elif end.limit is not None and end.limit - end.time > _CUT_S:
        why = "Slurm ends its job before its time limit (preemption)"
    else:
        why = "its time limit is near"
    return why, max(5, int(left_s) - 5)
