"""Mode ``slurm``: a cluster for one asset run."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster_glue.clusters.lease import Lease
from dagster_glue.clusters.on_slurm import SlurmCluster
from slurm_provider.api import RayCluster
from slurm_provider.errors import ClusterError
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import Transport, TransportError

_LONGEST_SLUG = 40
_SAME_AGAIN_S = 600.0
_HAND_OVER_S = 1800.0  # a code location that restarts, and the retry of its steps, take minutes


def cluster_name(run_id: str, step_key: str) -> str:
    """The same for all attempts of a step, so that a retry finds the cluster of the first."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", step_key)[:_LONGEST_SLUG].strip("-") or "step"
    return f"{slug}-{hashlib.sha256(f'{run_id}/{step_key}'.encode()).hexdigest()[:10]}"


@contextmanager
def cluster_for_asset(
    config: Mapping[str, Any],
    transport: Transport,
    work_dir: str,
    log: Callable[[str], None],
    *,
    queue_timeout_s: float | None,
    leave_running: Callable[[BaseException], bool],
) -> Iterator[SlurmCluster]:
    """Make the cluster, or find it, and take it down afterwards.

    ``log`` hears each new state of the head's job. ``leave_running`` says of an exception that it
    ends this process but not the work. Raises ConfigError, ClusterError, SlurmError or
    TransportError.
    """
    cluster = RayCluster(config, transport)
    # First: from its first moment on, the head looks for somebody who wants it.
    lease = Lease(transport, cluster.directory, f"{socket.gethostname()}-{os.getpid()}")
    lease.take()
    deadline = None if queue_timeout_s is None else time.monotonic() + queue_timeout_s
    try:
        _up(cluster, _when_new(log), deadline, queue_timeout_s)
        yield SlurmCluster(cluster, work_dir)
    except BaseException as error:
        if leave_running(error):
            lease.hand_over(_HAND_OVER_S)
        else:
            _take_down(cluster, lease, log)
        raise
    _take_down(cluster, lease, log)


def _take_down(cluster: RayCluster, lease: Lease, log: Callable[[str], None]) -> None:
    """What the payload did stands, so a cluster that stays is said and not raised; without a
    lease it goes by itself."""
    lease.give_back()
    try:
        cluster.down()
    except (ClusterError, SlurmError, TransportError) as error:
        log(
            f"Cluster {cluster.name} is not gone ({error}); "
            f"compute.cleanup_cluster({cluster.name!r}) tries again"
        )


def _up(
    cluster: RayCluster,
    show: Callable[[str], None],
    deadline: float | None,
    queue_timeout_s: float | None,
) -> None:
    def is_wanted() -> bool:
        return deadline is None or time.monotonic() < deadline

    try:
        head = cluster.up(show, is_wanted)
    except ClusterError as error:
        if is_wanted():
            raise
        raise ClusterError(
            f"the head of cluster {cluster.name!r} did not start within queue_timeout "
            f"({queue_timeout_s:g} s); it was withdrawn. Give a longer queue_timeout, or ask for "
            "less"
        ) from error
    show(f"Cluster {cluster.name}: Ray runs on {head.host} (Slurm job {head.job_id})")


def _when_new(log: Callable[[str], None]) -> Callable[[str], None]:
    """Say what is new; the expected start, which changes with every look, now and then."""
    said_words, said_at = "", 0.0

    def show(words: str) -> None:
        nonlocal said_words, said_at
        is_same = words.partition(" (expected")[0] == said_words.partition(" (expected")[0]
        if is_same and (words == said_words or time.monotonic() - said_at < _SAME_AGAIN_S):
            return
        said_words, said_at = words, time.monotonic()
        log(words)

    return show
