"""``ray-slurm sweep``: jobs that belong to no living cluster any more."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import click

from slurm_provider.cli.arguments import cluster_name_option
from slurm_provider.cli.cluster_file import load
from slurm_provider.cli.output import echo_table
from slurm_provider.errors import ConfigError
from slurm_provider.fleet.edge import EdgeHead
from slurm_provider.fleet.identity import HEAD, JobIdentity, parse_job_name
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.slurm import Job, SlurmClient
from slurm_provider.transport import LocalTransport, Transport

_HEADERS = ("JOB", "STATE", "CLUSTER", "TYPE", "KIND", "HOST", "WHY")


@dataclass(frozen=True)
class Orphan:
    """A job that nobody waits for, and why that is known."""

    job: Job
    identity: JobIdentity
    why: str


@click.command()
@click.argument("config_path", metavar="[CONFIG]", required=False, type=click.Path())
@cluster_name_option
@click.option("--all", "of_all", is_flag=True, help="All your clusters, not only that of CONFIG.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def sweep(config_path: str | None, cluster_name: str | None, of_all: bool, yes: bool) -> None:
    """Find jobs of Ray clusters that are gone, and cancel them after asking.

    A job is an orphan if its cluster has no head any more, or another cluster has taken its place.
    """
    if config_path is None and not of_all:
        raise ConfigError("give a CONFIG, or --all for every cluster of yours")
    cluster = None if config_path is None else load(config_path, cluster_name).cluster
    transport = LocalTransport() if cluster is None else cluster.transport
    client = SlurmClient(transport) if cluster is None else cluster.client
    only = None if of_all or cluster is None else cluster
    stores = _default_stores(transport) if only is None else [only.store]
    uuids = {uuid: store for store in stores if (uuid := store.uuid()) is not None}

    def has_edge_head(uuid: str) -> bool:
        return uuid in uuids and _has_edge_head(transport, uuids[uuid])

    known = None if only is None else {only.name: only.store.uuid()}
    orphans = find_orphans(client.queue(), known, has_edge_head)
    if not orphans:
        whose = "any of your clusters" if only is None else f"cluster {only.name}"
        click.echo(f"No orphaned jobs of {whose}.")
        return
    echo_table(_HEADERS, [_cells(orphan) for orphan in orphans])
    if not yes:
        click.confirm(f"Cancel {_count(orphans)}?", abort=True)
    client.cancel(orphan.job.job_id for orphan in orphans)
    click.echo(f"Cancelled {_count(orphans)}.")


def find_orphans(
    jobs: Iterable[Job],
    clusters: Mapping[str, str | None] | None,
    has_edge_head: Callable[[str], bool],
) -> list[Orphan]:
    """The orphans in a listing.

    ``clusters`` maps the name of each cluster to look at to the uuid of the one that exists now
    (None: there is none). Without it jobs of all clusters are looked at, and only those without a
    head count: a cluster's directory may be anywhere.
    """
    live = [(job, parse_job_name(job.name)) for job in jobs if job.state.is_live]
    ours = [(job, identity) for job, identity in live if identity is not None]
    headed = {identity.uuid for _, identity in ours if identity.kind == HEAD}
    found = []
    for job, identity in ours:
        why = _why(identity, clusters, headed, has_edge_head)
        if why is not None:
            found.append(Orphan(job, identity, why))
    return found


def _why(
    identity: JobIdentity,
    clusters: Mapping[str, str | None] | None,
    headed: set[str],
    has_edge_head: Callable[[str], bool],
) -> str | None:
    if clusters is not None:
        if identity.cluster not in clusters:
            return None
        current = clusters[identity.cluster]
        if current is None:
            return "the cluster's directory is gone"
        if current != identity.uuid:
            return "of an earlier cluster of this name"
    if identity.uuid in headed or has_edge_head(identity.uuid):
        return None
    return "the cluster's head is gone"


def _default_stores(transport: Transport) -> list[ClusterStore]:
    root = posixpath.join(transport.home(), ".ray-slurm")
    try:
        names = transport.list_dir(root)
    except FileNotFoundError:
        return []
    return [ClusterStore(transport, posixpath.join(root, name)) for name in names]


def _has_edge_head(transport: Transport, store: ClusterStore) -> bool:
    edge = EdgeHead(transport, store)
    place = edge.place()
    return place is not None and edge.is_alive(place)


def _cells(orphan: Orphan) -> tuple[str, ...]:
    job, identity = orphan.job, orphan.identity
    state = job.state.name.lower()
    return (
        job.job_id,
        state,
        identity.cluster,
        identity.node_type,
        identity.kind,
        job.nodelist,
        orphan.why,
    )


def _count(orphans: list[Orphan]) -> str:
    return f"{len(orphans)} job{'s' if len(orphans) != 1 else ''}"
