"""Waiting in Slurm's queue: for how long, through which outages, and what is said meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from dagster_glue.jobs.link import Outage
from slurm_provider.api import RayCluster
from slurm_provider.errors import ClusterError
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import TransportError

_SAME_AGAIN_S = 600.0


class QueueWait:
    """A wait that begins now and lasts at most ``timeout_s`` seconds; None: without limit."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s

    def is_wanted(self) -> bool:
        return self._deadline is None or time.monotonic() < self._deadline

    def explained(self, error: ClusterError, cluster: str) -> ClusterError:
        """``error`` itself or, where it only says that the time is over, what that means."""
        if self.is_wanted():
            return error
        return ClusterError(
            f"the head of cluster {cluster!r} did not start within queue_timeout "
            f"({self._timeout_s:g} s); it was withdrawn. Give a longer queue_timeout, or ask for "
            "less"
        )


def await_host(
    cluster: RayCluster, node_id: str, log: Callable[[str], None], wait: QueueWait
) -> None:
    """Until the head's job runs; a connection or a Slurm that is away meanwhile changes nothing.

    Raises ClusterError when the job ended or the wait is over, and SlurmError or TransportError
    for what will not pass.
    """
    show = when_new(log)
    outage = Outage(f"Slurm, asked for the head of cluster {cluster.name},", log)

    def check() -> None:
        if not wait.is_wanted():
            raise ClusterError("no longer waiting")

    while True:
        try:
            cluster.await_host(node_id, show, wait.is_wanted)
        except (SlurmError, TransportError) as error:
            if not error.transient:
                raise
            outage.failed(error)
            outage.wait(check)
        else:
            outage.passed()
            return


def when_new(log: Callable[[str], None]) -> Callable[[str], None]:
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
