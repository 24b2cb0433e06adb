"""What the workers of a cluster wait for, told while a job runs on it.

A small head mostly starts at once; its workers may be in Slurm's queue for days, and all that a
person would see is a step that does nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dagster_glue.clusters.base import ClusterAccess
from dagster_glue.jobs.link import MAY_PASS
from slurm_provider.worker_waits import WorkerWait

FIRST_LOOK_S = 15.0  # most workers run by then, and a short job pays nothing
LOOK_S = 45.0  # one squeue
_SAME_AGAIN_S = 600.0  # the expected start changes with every look


@contextmanager
def telling_of_workers(
    cluster: ClusterAccess, say: Callable[[str], None], warn: Callable[[str], None]
) -> Iterator[None]:
    """While the block runs, ``say`` gets what is new of workers that wait in Slurm's queue, and
    ``warn`` of those that fail or are refused. From another thread: a Slurm that is slow to answer
    holds nothing up."""
    if cluster.directory is None:  # no Slurm is involved
        yield
        return
    over = threading.Event()
    watch = threading.Thread(
        target=_watch, args=(cluster, WorkerNews(cluster.cluster_id), over, say, warn),
        name="worker-waits", daemon=True,
    )  # fmt: skip
    watch.start()
    try:
        yield
    finally:
        over.set()  # not joined: a question that is under way may take its time


class WorkerNews:
    """What of the workers' waits has not been said yet."""

    def __init__(self, cluster_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster_id = cluster_id
        self._clock = clock
        self._said: dict[tuple[str, str], tuple[WorkerWait, float]] = {}

    def of(self, waits: Sequence[WorkerWait]) -> list[tuple[WorkerWait | None, str]]:
        """What to say after a look; None: nobody waits any more."""
        now = self._clock()
        news: list[tuple[WorkerWait | None, str]] = []
        current = {(wait.node_type, wait.what): wait for wait in waits}
        had_any = bool(self._said)
        self._said = {key: said for key, said in self._said.items() if key in current}
        for key, wait in current.items():
            before, said_at = self._said.get(key, (None, now))
            if before is None or (wait != before and now - said_at >= _SAME_AGAIN_S):
                self._said[key] = wait, now
                news.append((wait, self._words(wait)))
        if had_any and not current:
            news.append((None, f"No workers of cluster {self._cluster_id} wait any more"))
        return news

    def _words(self, wait: WorkerWait) -> str:
        words = f"Cluster {self._cluster_id}: {wait.words}"
        if wait.stays:
            words += (
                "\nThis does not pass by itself: cancel the run, in a session also end the cluster "
                f"(compute.cleanup_cluster({self._cluster_id!r})), mend the cause, run it again"
            )
        return words


def _watch(
    cluster: ClusterAccess,
    news: WorkerNews,
    over: threading.Event,
    say: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    pause_s = FIRST_LOOK_S
    while not over.wait(pause_s):
        pause_s = LOOK_S
        try:
            waits = cluster.worker_waits()
        except MAY_PASS:
            continue  # nothing follows from that; an outage is told by who follows the job
        for wait, words in news.of(waits):
            if over.is_set():
                return
            (warn if wait is not None and wait.fails else say)(words)
