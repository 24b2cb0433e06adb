"""What is known about each node, from our own actions and from Slurm's listings (pure).

Rules: unknown is not gone. A node ends on positive evidence only: a terminal state in a
listing, or absence from several successful listings that were asked for after it was submitted.
Ray would otherwise forget a living node and later kill it as a stranger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from slurm_provider.fleet.identity import HEAD, JobIdentity, node_id, parse_job_name
from slurm_provider.slurm import Job, JobState

# A finished job leaves squeue after MinJobAge (300 s by default), so absence is rare; a
# controller that just restarted may answer before it has read all jobs.
MISSES_UNTIL_GONE = 3
MISSING_FOR_S = 30.0
# So long a job may still turn up whose sbatch gave no clear answer: a controller that was stopped
# carries out what waits in its socket when it goes on.
UNSURE_KEPT_S = 3600.0

_LOST = "no longer known to Slurm"
_NUMBERS = re.compile(r"[0-9]+")
_parse_name = lru_cache(maxsize=65536)(parse_job_name)


@dataclass
class Node:
    """One Ray node. ``job`` is Slurm's last word on it, None before Slurm listed it."""

    node_id: str
    node_type: str
    kind: str
    launch: str
    index: int
    job: Job | None = None
    job_id: str | None = None  # as sbatch answered
    submitted_at: float | None = None
    # When an sbatch for it was last under way or gave no clear answer: Slurm may have a job of it.
    unsure_since: float | None = None
    held: str | None = None  # why it is not submitted yet
    on_edge: bool = False  # a head outside Slurm; its life is judged by fleet/edge.py
    cancel_asked: bool = False
    cancelled_at: float | None = None  # when Slurm accepted it
    joined_at: float | None = None  # Ray, as far as its report was read
    # When the kernel last killed a process in its job for memory, as far as its report was read.
    memory_killed_at: float | None = None
    was_told: bool = False  # Ray was told of it
    is_news: bool = False  # it ended before Ray was told of it
    ended: str | None = None  # why it is gone for good
    misses: int = 0
    missing_since: float = 0.0
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """True while Ray should count it: held, queued or running."""
        ending = self.job is not None and self.job.state.is_ending
        return self.ended is None and self.cancelled_at is None and not ending

    @property
    def is_running(self) -> bool:
        if self.on_edge:
            return self.ended is None
        return self.job is not None and self.job.state is JobState.RUNNING

    @property
    def is_pending(self) -> bool:
        """In Slurm's queue, or on the way into it."""
        if self.held is not None or self.on_edge or not self.is_live:
            return False
        return self.job is None or self.job.state.is_pending

    @property
    def has_started(self) -> bool:
        """As far as Slurm's last word goes."""
        return self.job is not None and not self.job.state.is_pending

    @property
    def slurm_id(self) -> str | None:
        return self.job.job_id if self.job is not None else self.job_id


@dataclass(frozen=True)
class Observation:
    """What a listing changed."""

    ended: tuple[Node, ...]
    duplicates: tuple[str, ...]  # job ids that repeat a node, or one given up, and must go


class Ledger:
    """Nodes of the cluster with this uuid, by node id."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.nodes: dict[str, Node] = {}
        self._told: set[str] = set()  # Ray asks about these next, one by one

    def add(self, identity: JobIdentity, index: int) -> Node:
        """A node we are about to submit or hold."""
        node = Node(
            node_id(identity.launch, index), identity.node_type, identity.kind, identity.launch,
            index,
        )  # fmt: skip
        self.nodes[node.node_id] = node
        return node

    def submitting(self, nodes: Iterable[Node], now: float) -> None:
        """An sbatch for these nodes begins."""
        for node in nodes:
            node.held, node.unsure_since = None, now

    def not_submitted(self, nodes: Iterable[Node], reason: str, unsure_since: float | None) -> None:
        """The sbatch failed; ``unsure_since`` if it may have been carried out all the same."""
        for node in nodes:
            if node.job is None:
                node.held, node.unsure_since = reason, unsure_since

    def submitted(self, nodes: Sequence[Node], job_ids: Sequence[str], now: float) -> None:
        """Slurm took them, each as one of these jobs."""
        for node, job_id in zip(nodes, job_ids, strict=True):
            node.held = node.unsure_since = None
            node.job_id, node.submitted_at = job_id, now

    def observe(self, jobs: Iterable[Job], asked_at: float, now: float) -> Observation:
        """Take in a complete listing that was asked for at ``asked_at``."""
        ended: list[Node] = []
        unwanted: list[str] = []
        known = set(self.nodes)
        listed = self._by_node(jobs)
        for identifier, same in listed.items():
            job = same[0] if len(same) == 1 else min(same, key=_claim)
            node = self.nodes[identifier]
            unwanted += [other.job_id for other in same if other is not job and other.state.is_live]
            node.job, node.held, node.unsure_since, node.misses = job, None, None, 0
            if node.ended == _LOST and not job.state.is_terminal:
                node.ended = None  # absence was all that spoke against it
            if node.ended is not None:
                # Given up, and Ray knows it under this id no more.
                unwanted += [job.job_id] if job.state.is_live else []
            elif job.state.is_terminal:
                node.ended = _end_words(job)
                if identifier in known:  # of an earlier process's nodes we did not see the life
                    node.is_news = not node.was_told
                    ended.append(node)
        for node in self.nodes.values():
            if node.node_id not in listed and _is_missing(node, asked_at, now):
                node.ended = _LOST
                ended.append(node)
        return Observation(tuple(ended), tuple(unwanted))

    def silence(self, now: float) -> None:
        """Slurm gave no answer: what is unsure stays so, and waits for a later listing."""
        for node in self.nodes.values():
            if node.unsure_since is not None:
                node.unsure_since = now

    def lists_head(self, jobs: Iterable[Job]) -> bool:
        """Whether the cluster's head is among the jobs."""
        identities = (_parse_name(job.name) for job in jobs)
        return any(i is not None and i.kind == HEAD and i.uuid == self.uuid for i in identities)

    def forget_ended(self, keep: Iterable[str] = ()) -> None:
        """Drop nodes that ended and that Slurm no longer lists, so a long life stays small."""
        kept = self._told.union(keep)
        gone = [
            identifier
            for identifier, node in self.nodes.items()
            if node.ended and node.misses and identifier not in kept
        ]
        for identifier in gone:
            del self.nodes[identifier]

    def live(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.is_live]

    def tell(self) -> list[Node]:
        """What to tell Ray: living nodes, and once more those that ended before it was told of
        them. Ray waits ten minutes for a node that it asked for and never saw."""
        told = [node for node in self.nodes.values() if node.is_live or node.is_news]
        for node in told:
            node.was_told, node.is_news = True, False
        self._told = {node.node_id for node in told}
        return told

    def remaining(self) -> list[Node]:
        """Everything that may still hold something: also what is cancelled or completing."""
        return [node for node in self.nodes.values() if node.ended is None]

    def _by_node(self, jobs: Iterable[Job]) -> dict[str, list[Job]]:
        """This cluster's jobs by node id; nodes not known yet are taken up."""
        found: dict[str, list[Job]] = {}
        for job in jobs:
            identity = _parse_name(job.name)
            if identity is None or identity.uuid != self.uuid:
                continue
            index = identity.index if identity.index is not None else _task_index(job.job_id)
            identifier = node_id(identity.launch, index)
            if identifier not in self.nodes:
                self.add(identity, index)
            found.setdefault(identifier, []).append(job)
        return found


def _task_index(job_id: str) -> int:
    _, _, task = job_id.partition("_")
    return int(task) if task.isdigit() else 0


def _is_missing(node: Node, asked_at: float, now: float) -> bool:
    """Count a listing without the node; True once that proves it gone."""
    if node.ended is not None:
        node.misses += _can_know(node, asked_at)
        return False
    if node.job is None and (node.submitted_at is None or node.submitted_at >= asked_at):
        return False  # not submitted, or after the question: the answer cannot know it
    if node.misses == 0:
        node.missing_since = asked_at
    node.misses += 1
    if node.cancelled_at is not None and node.cancelled_at < asked_at and not node.has_started:
        # Slurm keeps no record of array tasks that were cancelled in the queue (seen on 22.05).
        return True
    return node.misses >= MISSES_UNTIL_GONE and now - node.missing_since >= MISSING_FOR_S


def _can_know(node: Node, asked_at: float) -> bool:
    """Whether a listing's silence about an ended node means that Slurm has no job of it."""
    if node.unsure_since is not None:
        return asked_at > node.unsure_since + UNSURE_KEPT_S
    return node.submitted_at is None or asked_at > node.submitted_at


def _claim(job: Job) -> tuple[bool, bool, list[int]]:
    """Orders jobs of one node: one that holds a host first, then the older one."""
    numbers = [int(number) for number in _NUMBERS.findall(job.job_id)]
    return not job.state.is_live, job.state.is_pending, numbers


def _end_words(job: Job) -> str:
    words = job.state.name.lower().replace("_", " ")
    reason = "" if job.reason in ("", "None") else f" ({job.reason})"
    return f"{words}{reason}"
