"""What a run tells Dagster about itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagster_glue.clusters.base import ClusterAccess
from dagster_glue.jobs.outcome import JobOutcome
from dagster_glue.metrics import (
    WAIT_S,
    Window,
    fetch_records,
    job_order,
    measure,
    measure_unaccounted,
    samples_of_jobs,
    usage_metadata,
    worker_plot,
)
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.identity import WORKER, parse_job_name
from slurm_provider.slurm import Job, SlurmClient, SlurmError
from slurm_provider.transport import TransportError

_SHARED_WAIT_S = 1.0
_USAGE_OF_ANOTHER = (
    "a cluster on which nothing ran: the payload had succeeded in an earlier attempt, on a cluster "
    "that has gone and whose usage is not counted here"
)


@dataclass(frozen=True)
class Footprint:
    """What a cluster has of Slurm, noted while it is there."""

    cluster_id: str
    job_ids: Sequence[str] = ()
    jobs: Sequence[Job] = ()
    """As the queue showed them last."""
    slurm: SlurmClient | None = None
    """None where no Slurm is involved."""
    shared: bool = False
    """Others use the cluster, and it goes on."""
    is_kept: bool = False
    """It goes on for the step's next attempt."""
    clock_offset_s: float = 0.0
    """How far Slurm's clock is ahead of this machine's."""

    @property
    def goes_on(self) -> bool:
        return self.shared or self.is_kept


def footprint_of(
    cluster: ClusterAccess, warn: Callable[[str], None], since: float, *, is_kept: bool = False
) -> Footprint:
    """What the cluster had from ``since`` on, in epoch seconds.

    ``is_kept``: it is not taken down now, but by the step's next attempt.
    Never raises for what Slurm says: a run's result does not depend on it.
    """
    from dagster_glue.clusters.on_slurm import SlurmCluster

    if not isinstance(cluster, SlurmCluster):
        return Footprint(cluster.cluster_id)
    try:
        offset_s = cluster.clock_offset_s()
        nodes, ids = cluster.history(since + offset_s)
        jobs = [node.job for node in nodes if node.job is not None]
        return Footprint(
            cluster.cluster_id, ids, jobs, cluster.slurm, cluster.is_shared, is_kept, offset_s
        )
    except (ClusterError, SlurmError, TransportError, OSError) as error:
        warn(f"it is not known which Slurm jobs the cluster had: {error}")
        return Footprint(cluster.cluster_id)


def run_metadata(
    outcome: JobOutcome, cluster_id: str, slurm_job_ids: Sequence[str]
) -> dict[str, Any]:
    """Which cluster, which jobs, which log (pure)."""
    metadata: dict[str, Any] = {
        "cluster_id": cluster_id,
        "ray_submission_id": outcome.submission_id,
    }
    if outcome.ray_job_id is not None:
        metadata["ray_job_id"] = outcome.ray_job_id
    if outcome.log_path is not None:
        metadata["run_log"] = dg.MetadataValue.path(outcome.log_path)
    if slurm_job_ids:
        metadata["slurm_job_ids"] = sorted(slurm_job_ids, key=job_order)
    return metadata


def ray_logs_metadata(cluster: ClusterAccess, path: str | None, *, goes_on: bool) -> dict[str, Any]:
    """Where nodes have copied Ray's logs after a failure, or that none could; to be asked when a
    cluster that does not go on has left.

    ``path`` is the folder that was meant for them; None where no nodes copy any.
    """
    if path is None:
        return {}
    folder, _, name = path.rpartition("/")
    try:
        are_there = name in cluster.transport().list_dir(folder)
    except FileNotFoundError:
        are_there = False
    except (TransportError, OSError):
        are_there = True  # as far as is known
    if are_there or goes_on:  # which takes nodes some seconds
        return {"ray_logs": dg.MetadataValue.path(path)}
    words = "none: no node was left to copy them when the job had failed"
    return {"ray_logs": dg.MetadataValue.text(words)}


def footprint_metadata(
    footprint: Footprint, window: Window, *, asked_for_gpus: bool, ran_elsewhere: bool = False
) -> dict[str, Any]:
    """What the cluster's jobs used, by Slurm's accounting; waits for its records for a while.

    ``window`` is by this machine's clock; ``ran_elsewhere``: the payload did, see JobOutcome.
    """
    if footprint.slurm is None or not footprint.job_ids:
        return {}
    window = window.shifted(footprint.clock_offset_s)
    job_ids, wait_s = footprint.job_ids, WAIT_S
    if footprint.goes_on:
        # A warm step is not to wait for what may still come, nor for what has not run.
        waiting = {job.job_id for job in footprint.jobs if job.state.is_pending}
        job_ids, wait_s = [each for each in job_ids if each not in waiting], _SHARED_WAIT_S
    goes_on = footprint.goes_on
    fetched = fetch_records(footprint.slurm, job_ids, still_running=goes_on, wait_s=wait_s)
    if fetched.records is None:
        usage = measure_unaccounted(
            footprint.jobs, job_ids, window, shared=footprint.shared, why=fetched.why
        )
    else:
        usage = measure(fetched.records, job_ids, window, shared=footprint.shared)
    metadata: dict[str, Any] = dict(usage_metadata(usage, asked_for_gpus=asked_for_gpus))
    if ran_elsewhere:
        metadata["slurm_usage_of"] = dg.MetadataValue.text(_USAGE_OF_ANOTHER)
    if footprint.shared:  # the others are not this run's
        ids = [*(job.record.job_id for job in usage.jobs), *usage.missing]
        metadata["slurm_job_ids"] = sorted(ids, key=job_order)
    names = [(job.record, parse_job_name(job.record.name)) for job in usage.jobs]
    workers = [record for record, name in names if name is not None and name.kind == WORKER]
    if workers:
        metadata["ray_workers"] = worker_plot(samples_of_jobs(workers, window.start, window.end))
    return metadata
