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
from dagster_glue.jobs.errors import PayloadError
from dagster_glue.jobs.outcome import FailureKind, kind_of_loss
from slurm_provider.errors import ClusterError, ConfigError
from slurm_provider.slurm import SlurmError, SlurmRefused
from slurm_provider.transport import TransportError

_UNSTARTED = (
    ConfigError, PayloadError, EnvironmentFailed, LocalClusterError, ClusterGone, ClusterError,
    SlurmError, TransportError,
)  # fmt: skip
_SAME_AGAIN = (FailureKind.CONFIGURATION, FailureKind.REFUSED)


@contextmanager
def telling_the_kind() -> Iterator[None]:
    """Make a dagster.Failure, with its kind, of what kept the payload from running.

    Its traceback begins here: where in this package it was noticed tells a user nothing. What
    would be the same again is not retried.
    """
    try:
        yield
    except dg.Failure as told:
        raise dg.Failure(told.description, told.metadata, told.allow_retries) from None
    except _UNSTARTED as error:
        kind = _kind(error)
        failure = dg.Failure(
            f"[{kind.value}] {error}",
            metadata={"failure_kind": kind.value},
            allow_retries=kind not in _SAME_AGAIN,
        )
        raise failure from (error if kind is FailureKind.UNKNOWN else None)


def _kind(error: Exception) -> FailureKind:
    match error:
        case ConfigError() | PayloadError():
            return FailureKind.CONFIGURATION
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
        case TransportError():
            return FailureKind.CONNECTION
    return FailureKind.UNKNOWN
