"""Slurm's job states, and what each one means for a node that is such a job.

Source: `man squeue` (JOB STATE CODES) and `man sacct` of Slurm 22.05 to 26.05.
"""

from __future__ import annotations

from enum import Enum


class JobState(Enum):
    """A job's state; the value is Slurm's extended name."""

    BOOT_FAIL = "BOOT_FAIL"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    COMPLETING = "COMPLETING"
    CONFIGURING = "CONFIGURING"
    DEADLINE = "DEADLINE"
    FAILED = "FAILED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PENDING = "PENDING"
    PREEMPTED = "PREEMPTED"
    REQUEUED = "REQUEUED"
    REQUEUE_FED = "REQUEUE_FED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    RESIZING = "RESIZING"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    REVOKED = "REVOKED"
    RUNNING = "RUNNING"
    SIGNALING = "SIGNALING"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    STAGE_OUT = "STAGE_OUT"
    STOPPED = "STOPPED"
    SUSPENDED = "SUSPENDED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN = "UNKNOWN"
    """A word this program does not know. Unknown is not gone: it counts as live."""

    @property
    def is_pending(self) -> bool:
        """The job waits in the queue and holds no host yet (or no longer)."""
        return self in _PENDING

    @property
    def is_terminal(self) -> bool:
        """The job is over and will not come back."""
        return self in _TERMINAL

    @property
    def is_ending(self) -> bool:
        """The job's work is over but its processes may still be dying on the host."""
        return self is JobState.COMPLETING

    @property
    def is_live(self) -> bool:
        """The job holds a host, may hold one, or may yet get one."""
        return not (self.is_terminal or self.is_ending)


def parse_state(text: str) -> JobState:
    """The state in Slurm's extended, compact or `sacct` form (``CANCELLED by 1001``).

    An unknown word is ``JobState.UNKNOWN``, never an error and never terminal.
    """
    state = _BY_TEXT.get(text)
    if state is None:
        word = text.split(maxsplit=1)[0].rstrip("+").upper() if text.strip() else ""
        state = _BY_TEXT.get(word, JobState.UNKNOWN)
    return state


_PENDING = frozenset(
    {
        JobState.PENDING,
        JobState.REQUEUED,
        JobState.REQUEUE_FED,
        JobState.REQUEUE_HOLD,
        JobState.RESV_DEL_HOLD,
        JobState.SPECIAL_EXIT,
    }
)
_TERMINAL = frozenset(
    {
        JobState.BOOT_FAIL,
        JobState.CANCELLED,
        JobState.COMPLETED,
        JobState.DEADLINE,
        JobState.FAILED,
        JobState.NODE_FAIL,
        JobState.OUT_OF_MEMORY,
        JobState.PREEMPTED,
        JobState.REVOKED,
        JobState.TIMEOUT,
    }
)
_COMPACT = {
    "BF": JobState.BOOT_FAIL,
    "CA": JobState.CANCELLED,
    "CD": JobState.COMPLETED,
    "CF": JobState.CONFIGURING,
    "CG": JobState.COMPLETING,
    "DL": JobState.DEADLINE,
    "F": JobState.FAILED,
    "NF": JobState.NODE_FAIL,
    "OOM": JobState.OUT_OF_MEMORY,
    "PD": JobState.PENDING,
    "PR": JobState.PREEMPTED,
    "R": JobState.RUNNING,
    "RD": JobState.RESV_DEL_HOLD,
    "RF": JobState.REQUEUE_FED,
    "RH": JobState.REQUEUE_HOLD,
    "RQ": JobState.REQUEUED,
    "RS": JobState.RESIZING,
    "RV": JobState.REVOKED,
    "S": JobState.SUSPENDED,
    "SE": JobState.SPECIAL_EXIT,
    "SI": JobState.SIGNALING,
    "SO": JobState.STAGE_OUT,
    "ST": JobState.STOPPED,
    "TO": JobState.TIMEOUT,
}
_BY_TEXT: dict[str, JobState] = {
    **{state.value: state for state in JobState},
    **_COMPACT,
    "REQUEUE": JobState.REQUEUED,  # older squeue manuals and `scontrol`
}
