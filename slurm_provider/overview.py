"""The cluster as its jobs, its agents' reports and its autoscaler's notes show it together."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slurm_provider.cluster import Cluster
from slurm_provider.cluster_paths import ClusterPaths
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.brake import times_in_a_row
from slurm_provider.fleet.edge import EdgeHead, EdgePlace
from slurm_provider.fleet.identity import HEAD, WORKER
from slurm_provider.fleet.ledger import Ledger, Node
from slurm_provider.slurm import Job, JobState, ReasonKind, explain

_TAIL_LINES = 5


@dataclass(frozen=True)
class NodeRow:
    """One node. Times are epoch seconds, None where nobody knows."""

    node_id: str
    node_type: str
    kind: str
    """``head`` or ``worker``."""
    state: str
    """``held`` (not submitted yet), ``queued``, ``running`` (the job runs, Ray does not yet),
    ``joined``, ``draining`` or ``ending``."""
    job_id: str | None
    host: str | None
    reason: str
    """Why it is in this state, for a person; empty for a node at work. Of the head, also what
    is wrong with the cluster's folder."""
    expected_start: float | None
    submit_time: float | None
    start_time: float | None
    """When its job started."""
    joined_time: float | None
    """When its Ray joined the cluster."""
    end_time: float | None
    """The time limit of its job."""
    log_path: str | None
    """None while it is held: what was not submitted prints nothing."""
    reason_kind: str | None = None
    """Of a queued node, a ``ReasonKind``: ``waiting`` (its turn comes), ``limited`` (by a quota),
    ``held``, ``never`` (it can never run as asked for) or ``unknown``."""

    @property
    def explained(self) -> str:
        """The reason after what kind of wait it is."""
        label = "" if self.reason_kind is None else ReasonKind(self.reason_kind).label
        return f"{label}: {self.reason}" if label else self.reason


@dataclass(frozen=True)
class Setback:
    """A node type whose nodes fail."""

    node_type: str
    paused: bool
    failures: int
    cause: str
    log_path: str | None
    log_tail: str


@dataclass(frozen=True)
class Facts:
    """Everything that was read, at one moment."""

    paths: ClusterPaths
    uuid: str
    jobs: Sequence[Job]
    reports: Mapping[str, Mapping[str, Any]]
    autoscaler: Mapping[str, Any]
    """``held``, nodes it has not submitted yet (``node_id``, ``node_type``, ``reason``), and
    ``types``, the state of node types that fail."""
    edge: EdgePlace | None
    """A living head outside Slurm."""
    now: float
    write_problem: str | None = None
    """Why nothing can be written to the cluster's folder."""


def made_cluster(cluster: Cluster) -> str:
    """The cluster's uuid; raises ClusterError where there is no such cluster."""
    uuid = cluster.store.uuid()
    if uuid is None:
        raise ClusterError(
            f"there is no cluster {cluster.name!r} in {cluster.store.paths.root} "
            f"({cluster.store.transport.label}); `ray up` makes it"
        )
    return uuid


def read_facts(cluster: Cluster, uuid: str, now: float, *, with_reports: bool = True) -> Facts:
    """One squeue and a few files. Raises ClusterError, SlurmError, TransportError.

    Without the agents' reports, a large cluster costs no more than a small one; what has started
    is then told by Slurm alone.
    """
    store = cluster.store
    edge = EdgeHead(cluster.transport, store)
    place = edge.place()
    return Facts(
        paths=store.paths,
        uuid=uuid,
        jobs=cluster.client.queue(),
        reports=store.reports() if with_reports else {},
        autoscaler=store.autoscaler_state() or {},
        edge=place if place is not None and edge.is_alive(place) else None,
        now=now,
        write_problem=store.write_problem() if with_reports else None,
    )


def node_rows(facts: Facts) -> list[NodeRow]:
    """All nodes that hold or want something: the head first, then by id."""
    ledger = Ledger(facts.uuid)
    ledger.observe(facts.jobs, facts.now, facts.now)
    rows = [_row(node, facts) for node in ledger.remaining()]
    if facts.edge is not None:
        rows.append(_edge_row(facts.edge, facts))
    if facts.write_problem is not None:
        rows = [replace(row, reason=_unwritable(facts)) if row.kind == HEAD else row
                for row in rows]  # fmt: skip
    has_head = any(row.kind == HEAD for row in rows)
    listed = {row.node_id for row in rows}
    # Without a head nobody would submit what was held: the notes are those of a dead autoscaler.
    for held in facts.autoscaler.get("held", []) if has_head else ():
        if held["node_id"] not in listed:
            rows.append(_held_row(held, facts))
    return sorted(rows, key=lambda row: (row.kind != HEAD, row.node_type, _natural(row.node_id)))


def head_end(facts: Facts) -> str | None:
    """How the last head ended, as far as squeue still shows it."""
    ledger = Ledger(facts.uuid)
    ledger.observe(facts.jobs, facts.now, facts.now)
    heads = [node for node in ledger.nodes.values() if node.kind == HEAD and node.ended]
    last = max(heads, key=lambda node: (node.job and node.job.end_time) or 0.0, default=None)
    return None if last is None else f"job {last.slurm_id}: {last.ended}"


def setbacks(facts: Facts, log_tail: Callable[[str, int], str]) -> list[Setback]:
    """The node types that fail; ``log_tail`` gives the last lines of a node's log."""
    found = []
    for name, state in facts.autoscaler.get("types", {}).items():
        log = state["where"][-1] if state.get("where") else None
        tail = ""
        if log is not None:
            tail = log_tail(posixpath.basename(log).removesuffix(".log"), _TAIL_LINES)
        found.append(
            Setback(name, bool(state["paused"]), state["failures"], state["cause"], log, tail)
        )
    return found


def _row(node: Node, facts: Facts) -> NodeRow:
    job = node.job
    assert job is not None  # the ledger was made from jobs alone
    report = facts.reports.get(node.node_id, {})
    state, reason = _state(job, report)
    end_time = job.end_time if job.time_limit_s is not None and not job.state.is_pending else None
    return NodeRow(
        node_id=node.node_id,
        node_type=node.node_type,
        kind=node.kind,
        state=state,
        job_id=job.job_id,
        host=None if job.state.is_pending else job.nodelist or None,
        reason=reason,
        expected_start=job.start_time if job.state.is_pending else None,
        submit_time=job.submit_time,
        start_time=None if job.state.is_pending else job.start_time,
        joined_time=report.get("joined"),
        end_time=end_time,
        log_path=facts.paths.log(node.node_id),
        reason_kind=explain(job.reason).kind.value if job.state.is_pending else None,
    )


def _unwritable(facts: Facts) -> str:
    """Of the head, for the cluster: its autoscaler cannot write down what it holds back either."""
    return (
        f"{facts.paths.root} cannot be written ({facts.write_problem}): until that is mended no "
        "node can start and none can say how it is"
    )


def _state(job: Job, report: Mapping[str, Any]) -> tuple[str, str]:
    """State and reason, from Slurm's view and the agent's."""
    if job.state.is_pending:
        return "queued", explain(job.reason).text
    if job.state.is_ending:
        return "ending", str(report.get("reason", ""))
    said = report.get("state")
    if said == "ended":
        return "ending", str(report.get("reason", ""))
    if job.state is JobState.CONFIGURING:
        return "running", "Slurm prepares the host"
    if job.state is JobState.SUSPENDED:
        return "running", "suspended by an administrator or by Slurm; goes on when it is resumed"
    if job.state is not JobState.RUNNING:
        words = job.state.name.lower().replace("_", " ")
        return "running", f"Slurm says {words}"  # its reason is that of a pending job
    if said == "joined":
        return "joined", ""
    if said == "draining":
        return "draining", f"{report.get('reason')}: it takes no new work"
    return "running", _STAGES.get(str(said), str(report.get("reason") or said))


_STAGES = {
    "None": "its job script activates the environment",
    "starting": "set-up, then Ray's start",
    "ready": "waits for `ray up` to start Ray",
}


def _edge_row(place: EdgePlace, facts: Facts) -> NodeRow:
    report = facts.reports.get(place.node_id, {})
    joined = report.get("state") == "joined"
    said = str(report.get("state"))
    return NodeRow(
        node_id=place.node_id,
        node_type=place.node_type,
        kind=HEAD,
        state="joined" if joined else "running",
        job_id=None,
        host=place.host,
        reason="" if joined else _STAGES.get(said, str(report.get("reason") or said)),
        expected_start=None,
        submit_time=None,
        start_time=None,
        joined_time=report.get("joined"),
        end_time=None,
        log_path=facts.paths.log(place.node_id),
    )


def _held_row(held: Mapping[str, Any], facts: Facts) -> NodeRow:
    return NodeRow(
        node_id=held["node_id"],
        node_type=held["node_type"],
        kind=WORKER,
        state="held",
        job_id=None,
        host=None,
        reason=_held_words(held, facts),
        expected_start=None,
        submit_time=None,
        start_time=None,
        joined_time=None,
        end_time=None,
        log_path=None,
    )


def _held_words(held: Mapping[str, Any], facts: Facts) -> str:
    """The autoscaler's reason; a back-off's is told anew, as its seconds are those of then."""
    state = facts.autoscaler.get("types", {}).get(held["node_type"])
    if state is None:
        return str(held["reason"])
    if state["paused"]:
        return "its node type is paused"
    wait_s = state["wait_until"] - facts.now
    when = f"in {wait_s:.0f} s" if wait_s > 0 else "is due"
    return f"its node type failed {times_in_a_row(state['failures'])}, next try {when}"


def _natural(node_id: str) -> tuple[str, int]:
    launch, _, index = node_id.rpartition("-")
    return launch, int(index) if index.isdigit() else 0
