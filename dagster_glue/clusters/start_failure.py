"""Which kind of failure kept a cluster from coming up."""

from __future__ import annotations

from dagster_glue.clusters.waiting import QueueTimeout
from dagster_glue.jobs.outcome import FailureKind, kind_by_slurm
from slurm_provider.api import RayCluster
from slurm_provider.errors import ClusterError, StartFailed
from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import TransportError

_ENDS_S = 40.0  # Slurm's KillWait is 30 s by default
# What node.sh, unpack.sh and the agent say of an environment, a shell of a program that is not
# there, and Python of a package.
_ENVIRONMENT_WORDS = (
    "provider.environment", "activating the environment", "[job] unpacking",
    "command not found", "bad interpreter", "No module named", "exit code 127",
)  # fmt: skip


class NoCluster(ClusterError):
    """The cluster did not come up; ``kind`` says why, as far as that is known."""

    def __init__(self, message: str, kind: FailureKind) -> None:
        super().__init__(message)
        self.kind = kind


def kind_of(error: ClusterError, cluster: RayCluster) -> FailureKind:
    """Asks Slurm what became of the head, and waits for its word on one that is ending."""
    if isinstance(error, QueueTimeout):
        return FailureKind.QUEUE_TIMEOUT
    head = None
    if isinstance(error, StartFailed):
        try:
            head = cluster.outcome(error.node_id, _ENDS_S)
        except (SlurmError, TransportError, ClusterError, OSError):
            pass  # the error itself may tell
    return kind_by_evidence(str(error), head)


def kind_by_evidence(words: str, head: Node | None) -> FailureKind:
    """``words`` are the error's, with the end of the head's log (pure)."""
    by_slurm = None if head is None else kind_by_slurm(head)
    if by_slurm is not None:
        return by_slurm
    if any(hint in words for hint in _ENVIRONMENT_WORDS):
        return FailureKind.ENVIRONMENT
    return FailureKind.UNKNOWN
