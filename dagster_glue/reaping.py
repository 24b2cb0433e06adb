"""A sensor, a job and an op that remove clusters nobody leases.

A head takes itself down when nobody leases it. These are for what cannot: a head that waits in
Slurm's queue while the Dagster process that wanted it was killed, a head whose agent died.
"""

# Annotations are not postponed here: Dagster refuses a `context` that is annotated by a string.

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from dagster_glue.compute import ComputeResource
from dagster_glue.modes import ExecutionMode
from dagster_glue.slurm import SlurmSessionResource
from dagster_glue.strict import StrictConfig
from slurm_provider.errors import ClusterError, ConfigError
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import TransportError

if TYPE_CHECKING:
    from dagster_glue.clusters.inventory import ClusterInfo

DEFAULT_GRACE_S = 3600.0

_OP = "remove_unleased_clusters"
_NO_ANSWER = (ClusterError, SlurmError, TransportError, OSError)


class ReapConfig(StrictConfig):
    """Which clusters to remove."""

    cluster_ids: list[str] = Field(
        description="Those of them that nobody leases are removed; the others stay."
    )


def build_reap_sensor(
    compute_key: str = "compute",
    *,
    grace_s: float = DEFAULT_GRACE_S,
    name: str = "reap_ray_clusters",
    minimum_interval_seconds: int = 300,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> dg.SensorDefinition:
    """A sensor that starts :func:`build_reap_job`'s job for clusters that nobody has leased for
    ``grace_s`` seconds.

    A cluster is due when it was without a lease in each look for at least that long; a session's
    clusters have their ``cluster_idle_timeout`` more. When Slurm or the edge node gives no answer,
    nothing is decided and the sensor says so.
    """

    def reap(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        compute: ComputeResource = getattr(context.resources, compute_key)
        try:
            clusters = compute.clusters()
        except _NO_ANSWER as error:
            return dg.SkipReason(f"It is not known what runs, so nothing is removed: {error}")
        grace = grace_s + _idle_timeout_s(compute)
        seen = look(clusters, json.loads(context.cursor or "{}"), time.time(), grace)
        cursor = json.dumps(seen.unleased_since)
        if not seen.due:
            return dg.SensorResult(skip_reason=_summary(clusters, seen), cursor=cursor)
        context.log.info(f"Nobody has leased {', '.join(seen.due)} for {grace:g} s")
        config = dg.RunConfig(ops={_OP: ReapConfig(cluster_ids=list(seen.due))})
        return dg.SensorResult(run_requests=[dg.RunRequest(run_config=config)], cursor=cursor)

    return dg.SensorDefinition(
        name=name,
        job=build_reap_job(compute_key, name=name),
        evaluation_fn=reap,
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        required_resource_keys={compute_key},
        description=f"Removes clusters that nobody has leased for {grace_s:g} seconds.",
    )


def build_reap_job(
    compute_key: str = "compute", *, name: str = "reap_ray_clusters"
) -> dg.JobDefinition:
    """A job of :func:`build_reap_op` alone, for the launchpad or a schedule of one's own."""
    remove = build_reap_op(compute_key)

    @dg.job(name=name, description="Removes those of the named clusters that nobody leases.")
    def reap_clusters() -> None:
        remove()

    return reap_clusters


def build_reap_op(compute_key: str = "compute") -> dg.OpDefinition:
    """An op that removes clusters by their ids, and returns those that it removed.

    It looks again first: a cluster that somebody leases by now stays. Raises the provider's errors
    when Slurm gives no answer or, after the others are removed, a cluster's jobs do not end.
    """

    @dg.op(name=_OP, required_resource_keys={compute_key})
    def remove(context: dg.OpExecutionContext, config: ReapConfig) -> list[str]:
        compute: ComputeResource = getattr(context.resources, compute_key)
        running = {cluster.cluster_id: cluster for cluster in compute.clusters()}
        removed, failures = [], []
        for cluster_id in config.cluster_ids:
            cluster = running.get(cluster_id)
            if cluster is None:
                context.log.info(f"Cluster {cluster_id} is gone already")
            elif cluster.is_leased:
                holders = ", ".join(lease.holder for lease in cluster.leases if lease.is_alive)
                context.log.warning(f"Cluster {cluster_id} stays: {holders} leases it")
            else:
                context.log.info(f"Removing cluster {cluster_id}: {_jobs(cluster)}")
                try:
                    compute.cleanup_cluster(cluster_id)
                    removed.append(cluster_id)
                except ConfigError:
                    context.log.info(f"Cluster {cluster_id} is gone already")
                except _NO_ANSWER as error:
                    context.log.error(f"Cluster {cluster_id} is not gone: {error}")
                    failures.append(error)
        if failures:
            raise failures[0]
        return removed

    return remove


@dataclass(frozen=True)
class Look:
    """What one look at the clusters says."""

    due: tuple[str, ...]
    """To be removed."""
    unleased_since: dict[str, float]
    """For the next look: since when a cluster was seen without a lease, in epoch seconds."""


def look(
    clusters: Iterable["ClusterInfo"],
    unleased_since: Mapping[str, float],
    now: float,
    grace_s: float,
) -> Look:
    """Which clusters are due, given the look before (pure).

    One that is due is counted anew, so that a removal that failed is tried again a grace later.
    """
    due, since = [], {}
    for cluster in clusters:
        if cluster.is_leased:
            continue
        begin = unleased_since.get(cluster.cluster_id, now)
        # A lease that ran out since then was alive in between.
        if any(now - lease.age_s > begin for lease in cluster.leases):
            begin = now
        if now - begin >= grace_s and cluster.cluster_id in unleased_since:
            due.append(cluster.cluster_id)
            begin = now
        since[cluster.cluster_id] = begin
    return Look(tuple(due), since)


def _idle_timeout_s(compute: ComputeResource) -> float:
    """How long a head may wait for the next step before it leaves by itself."""
    if compute.execution_mode is not ExecutionMode.SLURM_SESSION:
        return 0.0
    return float((compute.session or SlurmSessionResource()).cluster_idle_timeout)


def _summary(clusters: Iterable["ClusterInfo"], seen: Look) -> str:
    names = sorted(seen.unleased_since)
    leased = sum(cluster.is_leased for cluster in clusters)
    if not names:
        return f"No cluster is without a lease ({leased} leased)"
    return f"Without a lease, but not for long enough: {', '.join(names)} ({leased} leased)"


def _jobs(cluster: "ClusterInfo") -> str:
    jobs = [f"{job.job_id} {job.kind} {job.state}" for job in cluster.slurm_jobs]
    return f"nobody leases it; its Slurm jobs: {', '.join(jobs) or 'none'}"
