"""What kept a payload from running, as a failure that Dagster shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from dagster_glue.clusters.base import ClusterGone
from dagster_glue.clusters.local import LocalClusterError
from dagster_glue.clusters.start_failure import NoCluster
from dagster_glue.clusters.waiting import QueueTimeout
from dagster_glue.environment.base import EnvironmentFailed
from dagster_glue.jobs.outcome import FailureKind, kind_of_loss
from slurm_provider.errors import ClusterError
from slurm_provider.slurm import SlurmError, SlurmRefused
from slurm_provider.transport import TransportError

_FAILURES = (
    EnvironmentFailed, LocalClusterError, ClusterGone, ClusterError, SlurmError, TransportError
)  # fmt: skip


@contextmanager
def telling_the_kind() -> Iterator[None]:
    """Make a dagster.Failure, with its kind, of what kept the payload from a cluster."""
    try:
        yield
    except _FAILURES as error:
        kind = _kind(error)
        words = f"[{kind.value}] {error}"
        raise dg.Failure(words, metadata={"failure_kind": kind.value}) from error


def _kind(error: Exception) -> FailureKind:
    match error:
        case EnvironmentFailed() | LocalClusterError():
            return FailureKind.ENVIRONMENT
        case SlurmRefused():
            return FailureKind.REFUSED
        case NoCluster():
            return error.kind
        case QueueTimeout():
            return FailureKind.QUEUE_TIMEOUT
        case ClusterGone():
            return kind_of_loss(error.nodes, is_cluster_gone=True)
    return FailureKind.UNKNOWN
