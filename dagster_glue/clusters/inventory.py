"""Which clusters run, since when, and who wants them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from dagster_glue.clusters.local import LocalCluster, local_clusters
from dagster_glue.clusters.place import Place
from dagster_glue.clusters.site import Sighting
from dagster_glue.modes import ExecutionMode
from slurm_provider.errors import ConfigError
from slurm_provider.fleet.identity import name_error
from slurm_provider.slurm import explain


@dataclass(frozen=True)
class LeaseInfo:
    """Who wants a cluster."""

    holder: str
    age_s: float
    """Since it was renewed."""
    is_alive: bool
    """False: it ran out, as its holder was killed or is cut off."""


@dataclass(frozen=True)
class SlurmJobInfo:
    """One node of a cluster."""

    job_id: str
    kind: str
    """``head`` or ``worker``."""
    state: str
    """Slurm's, such as RUNNING."""
    host: str
    """Empty while it waits."""
    reason: str
    """Why it waits, in words; empty for one that runs."""


@dataclass(frozen=True)
class ClusterInfo:
    """A cluster that is there."""

    cluster_id: str
    mode: str
    """The value of an ExecutionMode."""
    since: datetime
    """In UTC; when it was made."""
    leases: tuple[LeaseInfo, ...]
    slurm_jobs: tuple[SlurmJobInfo, ...]
    """Those that Slurm has not ended yet."""

    @property
    def is_leased(self) -> bool:
        return any(lease.is_alive for lease in self.leases)


def slurm_clusters(place: Place) -> list[ClusterInfo]:
    """Those below a site's base path. Raises ClusterError, SlurmError, TransportError."""
    now = datetime.now(timezone.utc)
    return describe([s for s in place.look() if s.folder.uuid is not None], now)


def describe(sightings: Iterable[Sighting], now: datetime) -> list[ClusterInfo]:
    """What was seen, for a person (pure). Only ages were measured: ``now`` is this machine's."""
    return [
        ClusterInfo(
            cluster_id=sighting.name,
            mode=_mode(sighting),
            since=now - timedelta(seconds=sighting.folder.age_s),
            leases=tuple(
                LeaseInfo(lease.holder, lease.age_s, lease.is_alive)
                for lease in sighting.folder.leases
            ),
            slurm_jobs=_jobs(sighting),
        )
        for sighting in sightings
    ]


def end_slurm_cluster(place: Place, cluster_id: str) -> None:
    """See ``ComputeResource.cleanup_cluster``."""
    if name_error(cluster_id) is not None:
        raise ConfigError(f"cluster_id {cluster_id!r} cannot be one: {name_error(cluster_id)}")
    # Who looks for a cluster just now must not make one where we remove.
    with place.lock().held():
        there = [sighting.name for sighting in place.look()]
        if cluster_id not in there:
            raise _unknown(cluster_id, there)
        place.remove(cluster_id)


def local_runtimes() -> list[ClusterInfo]:
    """The Ray runtimes of this user on this machine."""
    return [
        ClusterInfo(
            cluster_id=cluster.cluster_id,
            mode=ExecutionMode.LOCAL.value,
            since=cluster.since,
            leases=tuple(LeaseInfo(user, 0.0, True) for user in cluster.users()),
            slurm_jobs=(),
        )
        for cluster in local_clusters()
    ]


def end_local_runtime(cluster_id: str) -> None:
    """See ``ComputeResource.cleanup_cluster``. Raises LocalClusterError if it does not end."""
    there: dict[str, LocalCluster] = {each.cluster_id: each for each in local_clusters()}
    if cluster_id not in there:
        raise _unknown(cluster_id, list(there))
    there[cluster_id].stop()


def _mode(sighting: Sighting) -> str:
    said = sighting.folder.session.get("mode")
    if said is not None:
        return str(said)
    is_het = any("+" in job.job_id for job, _ in sighting.jobs)
    return str((ExecutionMode.SLURM_HETJOB if is_het else ExecutionMode.SLURM).value)


def _jobs(sighting: Sighting) -> tuple[SlurmJobInfo, ...]:
    return tuple(
        SlurmJobInfo(
            job_id=job.job_id,
            kind=identity.kind,
            state=job.state.name,
            host="" if job.state.is_pending else job.nodelist,
            reason=explain(job.reason).text if job.state.is_pending else "",
        )
        for job, identity in sighting.jobs
        if not job.state.is_terminal
    )


def _unknown(cluster_id: str, there: Sequence[str]) -> ConfigError:
    names = ", ".join(there) or "none"
    return ConfigError(f"there is no cluster {cluster_id!r} (any more); there are: {names}")
