"""What keeps a payload from a cluster is a failure of a kind, with its evidence."""

from __future__ import annotations

import traceback
from typing import Any

import dagster as dg
import pytest

from dagster_glue.clusters.base import ClusterGone
from dagster_glue.clusters.local import LocalClusterError
from dagster_glue.clusters.start_failure import NoCluster
from dagster_glue.clusters.waiting import QueueTimeout
from dagster_glue.environment.base import EnvironmentFailed
from dagster_glue.jobs.errors import PayloadError
from dagster_glue.jobs.outcome import FailureKind
from dagster_glue.unstarted import telling_the_kind
from slurm_provider.errors import ClusterError, ConfigError
from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import Job, JobState, SlurmMissing, SlurmRefused
from slurm_provider.transport import TransportError


def head(state: JobState) -> Node:
    job = Job("7", "7", state, "None", "p", "n1", 1.0, 2.0, 3.0, None, 1, "x")
    return Node("h-0", "t", "head", "l", 0, job=job, ended=state.name.lower())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SlurmRefused("no such partition"), "refused"),
        (EnvironmentFailed("no lock"), "environment"),
        (LocalClusterError("Ray does not start on this machine"), "environment"),
        (NoCluster("waited in vain", FailureKind.QUEUE_TIMEOUT), "queue_timeout"),
        (QueueTimeout("no answer within queue_timeout"), "queue_timeout"),
        (ClusterGone("the head has left", [head(JobState.PREEMPTED)]), "preempted"),
        (ClusterGone("the runtime has ended"), "cluster_ended"),
        (ClusterError("it is being taken down"), "unknown"),
        (SlurmMissing("there is no squeue"), "unknown"),
        (TransportError("the host key has changed"), "connection"),
        (ConfigError("no such field"), "configuration"),
        (PayloadError("no such file"), "configuration"),
    ],
)
def test_what_keeps_a_payload_from_a_cluster_has_a_kind(error: Exception, kind: str) -> None:
    with pytest.raises(dg.Failure) as raised, telling_the_kind():
        raise error
    metadata: Any = raised.value.metadata
    assert metadata["failure_kind"].value == kind
    assert raised.value.description == f"[{kind}] {error}"


@pytest.mark.parametrize(
    ("error", "is_retried"),
    [
        (ConfigError("no such field"), False),
        (SlurmRefused("no such partition"), False),
        (TransportError("the edge node is down"), True),
    ],
)
def test_what_would_be_the_same_again_is_not_retried(error: Exception, is_retried: bool) -> None:
    with pytest.raises(dg.Failure) as raised, telling_the_kind():
        raise error
    assert raised.value.allow_retries is is_retried


def test_a_user_is_not_shown_where_in_this_package_it_was_noticed() -> None:
    def deep_inside() -> None:
        raise dg.Failure("[payload] the payload failed")

    with pytest.raises(dg.Failure) as raised, telling_the_kind():
        deep_inside()
    frames = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert "deep_inside" not in frames
    assert raised.value.__suppress_context__
