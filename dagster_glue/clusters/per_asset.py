"""Mode ``slurm``: a cluster for one asset run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster_glue.clusters.lease import HAND_OVER_S, Lease, tidy
from dagster_glue.clusters.on_slurm import SlurmCluster
from dagster_glue.clusters.start_logs import keeping_start_logs
from dagster_glue.clusters.waiting import Patience, QueueWait, await_host
from slurm_provider.api import RayCluster
from slurm_provider.errors import ClusterError
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import Transport, TransportError

_LONGEST_SLUG = 40


def cluster_name(run_id: str, step_key: str) -> str:
    """The same for all attempts of a step, so that a retry finds the cluster of the first."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", step_key)[:_LONGEST_SLUG].strip("-") or "step"
    return f"{slug}-{hashlib.sha256(f'{run_id}/{step_key}'.encode()).hexdigest()[:10]}"


def cluster_is_there(transport: Transport, directory: str) -> bool:
    """Whether that cluster was made and nobody has begun to take it down. Raises TransportError."""
    try:
        names = transport.list_dir(directory)
    except FileNotFoundError:
        return False
    return "cluster.json" in names and "closing" not in names


@contextmanager
def cluster_for_asset(
    config: Mapping[str, Any],
    transport: Transport,
    work_dir: str,
    log: Callable[[str], None],
    *,
    run_id: str,
    step_key: str,
    queue_timeout_s: float | None,
    leave_running: Callable[[BaseException | None], bool],
) -> Iterator[SlurmCluster]:
    """Make the cluster, or find it, and take it down afterwards.

    ``log`` hears each new state of the head's job. ``leave_running`` says whether somebody goes on
    with the cluster after an exception, or (None) after the end. Raises ConfigError, ClusterError,
    SlurmError or TransportError.
    """
    cluster = RayCluster(config, transport)
    wait = QueueWait(queue_timeout_s)
    patience = Patience(f"Slurm, asked for cluster {cluster.name},", log, wait)
    lease = _leased(cluster, run_id, step_key, patience)
    try:
        with keeping_start_logs(cluster, work_dir):
            _up(cluster, log, wait, patience)
        yield SlurmCluster(cluster, work_dir)
    except BaseException as error:
        if leave_running(error):
            lease.hand_over(HAND_OVER_S)
        else:
            _take_down(cluster, lease, log)
        raise
    if leave_running(None):
        lease.hand_over(HAND_OVER_S)
    else:
        _take_down(cluster, lease, log)


def _leased(cluster: RayCluster, run_id: str, step_key: str, patience: Patience) -> Lease:
    """First: from its first moment on, the head looks for somebody who wants it."""
    while True:
        lease = Lease(cluster.transport, cluster.directory, run_id, step_key)
        try:
            patience.insist(lease.take)
            # After the lease, see agent/head.py: with no tombstone now, the head sees the lease.
            names = patience.insist(lambda: cluster.transport.list_dir(cluster.directory))
            if "closing" not in names or "cluster.json" not in names:
                return lease
        except FileNotFoundError:
            pass  # a head that left has removed the folder just now
        except BaseException:
            lease.give_back()
            raise
        lease.give_back()
        patience.insist(cluster.down)  # what is left of it


def _take_down(cluster: RayCluster, lease: Lease, log: Callable[[str], None]) -> None:
    """What the payload did stands, so a cluster that stays is said and not raised; without a
    lease and a job it goes by itself."""
    lease.give_back()
    try:
        cluster.down()
        tidy(cluster.transport, cluster.directory)  # of one that was never made
    except (ClusterError, SlurmError, TransportError, OSError) as error:
        log(
            f"Cluster {cluster.name} is not gone ({error}); "
            f"compute.cleanup_cluster({cluster.name!r}) tries again"
        )


def _up(
    cluster: RayCluster, log: Callable[[str], None], wait: QueueWait, patience: Patience
) -> None:
    try:
        node_id = patience.insist(cluster.request_head)
        await_host(cluster, node_id, log, wait)
    except ClusterError as error:
        raise wait.explained(error, cluster.name) from error
    # It is out of the queue, so that wait is over.
    head = Patience(f"the head of cluster {cluster.name}", log).insist(
        lambda: cluster.start_ray(node_id)
    )
    log(f"Cluster {cluster.name}: Ray runs on {head.host} (Slurm job {head.job_id})")
