"""One head at a time, however many `ray up` and `ray down` run at once for the same cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from slurm_provider.cluster import Cluster
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.identity import HEAD
from slurm_provider.fleet.ledger import Node

logger = logging.getLogger(__name__)

# What a `ray down` takes from its last job to the end of the folder; a mark that stays longer is
# of one that was interrupted.
_DOWN_ENDS_S = 5.0
_LOOK_AGAIN_S = 0.2
_LOCK_ENDS_S = 10.0
_HELD_BY_ANOTHER = 75  # flock's exit code, chosen by us
_LOCKED = f"umask 077; exec flock -n -E {_HELD_BY_ANOTHER} \"$1\" sh -c 'echo; exec cat'"


@contextmanager
def sole_launch(cluster: Cluster) -> Iterator[None]:
    """For launching the head within: nobody else does meanwhile, and there is none.

    Raises ClusterError while another `ray up` launches it, after it did, and while `ray down` ends
    the cluster. The cluster's folder exists within.
    """
    _let_ray_down_end(cluster)
    with _lock(cluster):
        heads = [node for node in _nodes(cluster) if node.kind == HEAD]
        if heads:
            raise ClusterError(
                f"another `ray up` has launched the head of cluster {cluster.name!r} meanwhile "
                f"(job {heads[0].slurm_id}); run `ray up` again: it goes on with that head"
            )
        yield


def check_open(cluster: Cluster) -> None:
    """Raises ClusterError while `ray down` ends the cluster: its nodes leave then."""
    if cluster.store.is_closing():
        raise ClusterError(
            f"cluster {cluster.name!r} is being taken down; run `ray up` again when `ray down` has "
            "ended (if none is under way any more, run `ray down` first)"
        )


def _let_ray_down_end(cluster: Cluster) -> None:
    store, deadline = cluster.store, time.monotonic() + _DOWN_ENDS_S
    if not (store.exists() and store.is_closing()):
        return
    if cluster.was_made and cluster.fleet.remaining():
        check_open(cluster)
    while store.exists() and store.is_closing() and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_S)
    cluster.forget()


def _nodes(cluster: Cluster) -> list[Node]:
    return cluster.fleet.nodes(max_age_s=0.0) if cluster.was_made else []


@contextmanager
def _lock(cluster: Cluster) -> Iterator[None]:
    """Held by a small program on the side of Slurm's commands, which ends with our connection to
    it: a lock never outlives its holder."""
    store = cluster.store
    path = store.paths.launching
    store.transport.make_dir(store.paths.root, mode=0o700)
    process = store.transport.popen(["sh", "-c", _LOCKED, "sh", path])
    try:
        if not process.stdout.read(1):
            if process.wait(_LOCK_ENDS_S) == _HELD_BY_ANOTHER:
                raise ClusterError(
                    f"another `ray up` is launching the head of cluster {cluster.name!r} just "
                    "now; run `ray up` again in a moment: it goes on with that head"
                )
            # No locks there, or no flock: what is left is to look for a head.
            words = process.stderr_tail.strip()
            logger.warning("two `ray up` at once are not kept apart: %s", words)
        yield
    finally:
        process.stdin.close()
        process.wait(_LOCK_ENDS_S)
