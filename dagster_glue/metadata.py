"""What a run tells Dagster about itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagster_glue.clusters.base import ClusterAccess
from dagster_glue.jobs.outcome import JobOutcome
from dagster_glue.metrics import (
    Window,
    fetch_records,
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


def footprint_of(cluster: ClusterAccess, warn: Callable[[str], None]) -> Footprint:
    """Never raises for what Slurm says: a run's result does not depend on it."""
    from dagster_glue.clusters.on_slurm import SlurmCluster

    if not isinstance(cluster, SlurmCluster):
        return Footprint(cluster.cluster_id)
    try:
        jobs = [node.job for node in cluster.evidence() if node.job is not None]
        return Footprint(cluster.cluster_id, cluster.job_ids(), jobs, cluster.slurm)
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
        metadata["slurm_job_ids"] = list(slurm_job_ids)
    return metadata


def footprint_metadata(
    footprint: Footprint, window: Window, *, asked_for_gpus: bool
) -> dict[str, Any]:
    """What the cluster's jobs used, by Slurm's accounting; waits for its records for a while."""
    if footprint.slurm is None or not footprint.job_ids:
        return {}
    fetched = fetch_records(footprint.slurm, footprint.job_ids, still_running=footprint.shared)
    if fetched.records is None:
        usage = measure_unaccounted(
            footprint.jobs, footprint.job_ids, window, shared=footprint.shared, why=fetched.why
        )
    else:
        usage = measure(fetched.records, footprint.job_ids, window, shared=footprint.shared)
    metadata: dict[str, Any] = dict(usage_metadata(usage, asked_for_gpus=asked_for_gpus))
    names = [(job.record, parse_job_name(job.record.name)) for job in usage.jobs]
    workers = [record for record, name in names if name is not None and name.kind == WORKER]
    if workers:
        metadata["ray_workers"] = worker_plot(samples_of_jobs(workers, window.start, window.end))
    return metadata


def version_warning(wanted: str, found: str) -> str | None:
    """Both versions in a sentence if they differ (pure)."""
    if wanted == found:
        return None
    return (
        f"RayLauncher.ray_version is {wanted}, the environment's Ray is {found}: change one of "
        "the two (with require_ray_version=True this is an error)"
    )
