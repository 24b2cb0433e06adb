"""Following a job to its end, through outages of minutes or hours.

Nothing is assumed. A job has ended when Ray says so, when the program around it wrote so, or when
Slurm says that the head is gone or a new head does not know the job. Silence means: try again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dagster_glue.clusters.base import ClusterAccess, ClusterGone
from dagster_glue.jobs.client import JobRecord, JobUnknown
from dagster_glue.jobs.link import MAY_PASS, JobsLink, Outage
from dagster_glue.jobs.source import Drained, Source
from dagster_glue.jobs.tail import FolderMissing
from slurm_provider.fleet.ledger import Node

_FASTEST_S = 0.1
_WAIT_S = 2.0  # for output, beside the files
_SLOWEST_S = 1.0  # between glances at them, which the edge node pays for
_SLOWEST_SHARE = 0.02  # of the time so far: a short job's end is to be noticed soon
_STATUS_S = 1.0  # between questions to Ray while the job runs
_ASK_SLURM_AFTER_S = 15.0
_ASK_SLURM_EVERY_S = 30.0
_ASK_SLURM_ENDED_S = 3.0  # after and between, where the payload has ended: mostly with the head
_ENDED_TRUSTED_S = 20.0  # Ray's own word is waited for so long once the payload has ended
_UNKNOWN_TIMES = 3  # "no such job", before it is believed
# After the end, without anything new. An NFS client believes its cached attributes for up to 60 s
# by default.
_DRAIN_SUCCEEDED_S = 75.0
_DRAIN_FAILED_S = 3.0
_GIVEN_UP_S = 300.0


@dataclass(frozen=True)
class End:
    """How it ended. Without ``record``, Ray can no longer tell; ``lost`` says why."""

    record: JobRecord | None
    lost: str = ""
    nodes: Sequence[Node] = ()
    is_cluster_gone: bool = False


class Follower:
    """Reads until the end. ``check`` is called often; what it raises ends the following."""

    def __init__(
        self,
        cluster: ClusterAccess,
        link: JobsLink,
        submission_id: str,
        source: Source,
        *,
        check: Callable[[], None],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster = cluster
        self._link = link
        self._submission_id = submission_id
        self._source = source
        self._check = check
        self._clock = clock
        self._sleep = sleep
        self._files = Outage(f"the job's output on cluster {cluster.cluster_id}", say, clock)
        self._next_status = 0.0
        self._next_evidence = 0.0
        self._unknown = 0
        self._ended_since: float | None = None

    def follow(self) -> End:
        """Until the end, with everything read that can be read."""
        wait_s, begin = 0.0, self._clock()
        while True:
            self._check()
            share_s = _SLOWEST_SHARE * (self._clock() - begin)
            self._look(wait_s, min(_SLOWEST_S, max(_FASTEST_S, share_s)))
            try:
                end = self._end()
            except ClusterGone as gone:
                end = End(None, lost=str(gone), is_cluster_gone=True)
            if end is not None:
                self._source.finish(self._drain(end))
                return end
            # Once the payload has ended, only Ray's word is waited for.
            wait_s = _WAIT_S if self._source.ended is None else 0.0
            self._sleep(_FASTEST_S)

    def _look(self, wait_s: float, pause_s: float) -> None:
        if not self._files.is_due:
            return
        try:
            self._source.look(wait_s, pause_s)
        except (JobUnknown, ClusterGone):
            return  # the question for the job's state will tell
        except MAY_PASS as error:
            if not self._source.needs_ray:  # Ray's own outage is told by the link
                self._files.failed(error)
            return
        self._files.passed()

    def _end(self) -> End | None:
        now = self._clock()
        has_ended = self._source.ended is not None
        if now < self._next_status and not has_ended:
            return None
        self._next_status = now + _STATUS_S
        try:
            record = self._link.attempt(lambda api: api.job(self._submission_id))
        except JobUnknown:
            self._unknown += 1
            if self._unknown < _UNKNOWN_TIMES:
                return None
            if has_ended:
                return End(None)
            return End(
                None,
                lost=f"cluster {self._cluster.cluster_id} no longer knows the job: its head was "
                "started anew, and running jobs ended with the one before",
                nodes=self._nodes(),
            )
        if record is not None:
            self._unknown = 0
            return End(record) if record.is_terminal or self._has_succeeded() else None
        if has_ended and self._link.outage.duration_s > 0:
            self._ended_since = self._ended_since or now
            if now - self._ended_since > _ENDED_TRUSTED_S:
                return End(None)
        return self._ask_slurm(has_ended=has_ended)

    def _ask_slurm(self, *, has_ended: bool) -> End | None:
        now = self._clock()
        after_s = _ASK_SLURM_ENDED_S if has_ended else _ASK_SLURM_AFTER_S
        if self._link.outage.duration_s < after_s or now < self._next_evidence:
            return None
        self._next_evidence = now + (_ASK_SLURM_ENDED_S if has_ended else _ASK_SLURM_EVERY_S)
        nodes = self._nodes()
        heads = [node for node in nodes if node.kind == "head"]
        if not heads or any(node.ended is None for node in heads):
            return None
        words = "; ".join(f"{node.node_id} (job {node.slurm_id}): {node.ended}" for node in heads)
        return End(None, lost=f"the cluster's head has ended: {words}", nodes=nodes)

    def _nodes(self) -> list[Node]:
        try:
            return self._cluster.evidence()
        except MAY_PASS:
            return []  # Slurm is silent as well: nothing follows from that

    def _has_succeeded(self) -> bool:
        return self._source.ended is not None and self._source.ended.succeeded

    def _drain(self, end: End) -> str:
        """Read the rest; why it could not be read, if so."""
        if self._source.needs_ray and end.record is None:
            return ""
        has_rays_word = end.record is not None and end.record.status == "SUCCEEDED"
        succeeded = has_rays_word or self._has_succeeded()
        limit_s = _DRAIN_SUCCEEDED_S if succeeded else _DRAIN_FAILED_S
        idle_since: float | None = None  # an outage does not count
        while True:
            self._check()
            if self._files.is_due:
                try:
                    drained = self._source.drain(end.record)
                except (JobUnknown, ClusterGone):
                    return ""
                except MAY_PASS as error:
                    self._files.failed(error)
                    # A success is worth any wait for what can still come.
                    is_lost = not succeeded or isinstance(error, FolderMissing)
                    if is_lost and self._files.duration_s > _GIVEN_UP_S:
                        return str(error)
                else:
                    self._files.passed()
                    if drained is Drained.ALL:
                        return ""
                    if idle_since is None or drained is Drained.SOME:
                        idle_since = self._clock()
                    if self._clock() - idle_since > limit_s:
                        return ""
            self._sleep(_FASTEST_S)
