"""One head, however many `ray up` and `ray down` run at once for the same cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slurm_provider.cluster import Cluster
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.identity import HEAD
from slurm_provider.fleet.ledger import Node
from slurm_provider.fleet.lock import cluster_lock


@contextmanager
def sole_launch(cluster: Cluster) -> Iterator[None]:
    """For launching the head within: nobody else does meanwhile, and there is none.

    Raises ClusterError while another `ray up` launches it, after it did, and while `ray down` ends
    the cluster. The cluster's folder exists within.
    """
    _check_leaving(cluster)
    with cluster_lock(cluster.store):
        cluster.renew()
        _check_leaving(cluster)
        if cluster.store.is_closing():  # what an interrupted `ray down` left, or one will let be
            cluster.store.clear(keep_logs=cluster.config.keep_logs)
            cluster.forget()
        heads = [node for node in _nodes(cluster) if node.kind == HEAD]
        if heads:
            where = f"job {heads[0].slurm_id}" if heads[0].slurm_id else "on the edge node"
            raise ClusterError(
                f"another `ray up` has launched the head of cluster {cluster.name!r} meanwhile "
                f"({where}); run `ray up` again: it goes on with that head"
            )
        yield


def _check_leaving(cluster: Cluster) -> None:
    store = cluster.store
    if store.exists() and store.is_closing() and cluster.was_made and cluster.fleet.remaining():
        check_open(cluster)


def _nodes(cluster: Cluster) -> list[Node]:
    return cluster.fleet.nodes(max_age_s=0.0) if cluster.was_made else []


def check_open(cluster: Cluster) -> None:
    """Raises ClusterError while `ray down` ends the cluster: its nodes leave then."""
    if cluster.store.is_closing():
        raise ClusterError(
            f"cluster {cluster.name!r} is being taken down; run `ray up` again when `ray down` has "
            "ended (if none is under way any more, run `ray down` first)"
        )
