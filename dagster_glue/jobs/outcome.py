"""What became of a job, and if it failed, which kind of failure, from the evidence (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from dagster_glue.jobs.client import JobRecord
from dagster_glue.jobs.source import Ended
from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import JobState


class FailureKind(str, Enum):
    PAYLOAD = "payload"
    """Its own exception, or exit code."""
    OUT_OF_MEMORY = "out_of_memory"
    WALLTIME = "walltime"
    PREEMPTED = "preempted"
    NODE_FAILED = "node_failed"
    CANCELLED = "cancelled"
    CLUSTER_ENDED = "cluster_ended"
    """The cluster was taken down, or left by itself, before the payload's end was known."""
    ENVIRONMENT = "environment"
    """The program or a package is missing where it ran."""
    REFUSED = "refused"
    """Slurm or Ray did not take the submission."""
    CONFIGURATION = "configuration"
    """What was asked for cannot be; nothing was started."""
    CONNECTION = "connection"
    """The edge node could not be reached, or did not let us in."""
    QUEUE_TIMEOUT = "queue_timeout"
    """The cluster did not start within ``queue_timeout``."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class JobOutcome:
    """Times are epoch seconds."""

    status: str
    """succeeded, failed, stopped or lost."""
    kind: FailureKind | None
    """None for a success."""
    message: str
    submission_id: str
    ray_job_id: str | None = None
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    log_path: str | None = None
    """run.log on the cluster's file system; None where nothing is shared."""
    ray_logs_path: str | None = None
    """Folder to which nodes copy Ray's logs after a failure; None where none do."""
    was_adopted: bool = False
    """An earlier attempt had started it."""
    ran_elsewhere: bool = False
    """On an earlier cluster, which has gone; on this one nothing ran."""

    @property
    def succeeded(self) -> bool:
        return self.kind is None


@dataclass(frozen=True)
class PipesReport:
    """What came over Pipes."""

    has_opened: bool
    has_closed: bool
    problems: Sequence[str] = ()
    exception: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Evidence:
    """All that is known of a job that is over."""

    record: JobRecord | None
    ended: Ended | None
    pipes: PipesReport
    lost: str = ""
    is_cluster_gone: bool = False
    """There is no such cluster any more."""
    nodes: Sequence[Node] = field(default=())
    tail: str = ""
    """The last lines that the driver printed."""


_BY_STATE = {
    JobState.CANCELLED: FailureKind.CANCELLED,
    JobState.TIMEOUT: FailureKind.WALLTIME,
    JobState.DEADLINE: FailureKind.WALLTIME,
    JobState.PREEMPTED: FailureKind.PREEMPTED,
    JobState.NODE_FAIL: FailureKind.NODE_FAILED,
    JobState.BOOT_FAIL: FailureKind.NODE_FAILED,
    JobState.OUT_OF_MEMORY: FailureKind.OUT_OF_MEMORY,
}
_BY_RAY_ERROR = {
    "RUNTIME_ENV_SETUP_FAILURE": FailureKind.ENVIRONMENT,
    "JOB_SUPERVISOR_ACTOR_START_TIMEOUT": FailureKind.REFUSED,
    "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE": FailureKind.REFUSED,
    "JOB_SUPERVISOR_ACTOR_START_FAILURE": FailureKind.ENVIRONMENT,
    "JOB_ENTRYPOINT_COMMAND_START_ERROR": FailureKind.ENVIRONMENT,
    "JOB_SUPERVISOR_ACTOR_DIED": FailureKind.NODE_FAILED,
    "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE": FailureKind.UNKNOWN,
}
_MEMORY_ERRORS = ("OutOfMemoryError", "MemoryError")
_NODE_ERRORS = (
    "NodeDiedError", "WorkerCrashedError", "ActorDiedError", "ActorUnavailableError",
    "ObjectLostError", "OwnerDiedError", "NodeDied",
)  # fmt: skip
_IMPORT_ERRORS = ("ModuleNotFoundError", "No module named")
_SIGKILL, _SIGTERM = 9, 15


def judge(evidence: Evidence, *, strict: bool) -> tuple[str, FailureKind | None, str]:
    """Status, kind (None: it succeeded), and what to tell a person."""
    record, ended = evidence.record, evidence.ended
    if record is not None and record.status == "STOPPED":
        words = "the Ray job was stopped, by a cancelled run or by `ray job stop`"
        return "stopped", FailureKind.CANCELLED, words
    exit_code = _exit_code(evidence)
    if record is not None and record.status == "SUCCEEDED":
        exit_code = 0
    if exit_code == 0 and not _is_cut_short(evidence):
        reason = _pipes_failure(evidence.pipes) if strict else None
        if reason is None:
            return "succeeded", None, "the job succeeded"
        return "failed", FailureKind.PAYLOAD, f"the Ray job succeeded, but {reason}"
    if record is None and ended is None:
        kind = kind_of_loss(evidence.nodes, is_cluster_gone=evidence.is_cluster_gone)
        return "lost", kind, _with_output(evidence.lost or "the job is lost", evidence)
    return ("failed", *_failure(evidence, exit_code))


def kind_of_loss(nodes: Sequence[Node], *, is_cluster_gone: bool) -> FailureKind:
    """What ended a job of which only the cluster's nodes can tell."""
    heads = [node for node in nodes if node.kind == "head" and node.ended is not None]
    has_left = any(head.job and head.job.state is JobState.COMPLETED for head in heads)
    if has_left or (is_cluster_gone and not any(head.job for head in heads)):
        return FailureKind.CLUSTER_ENDED
    return _kind_of(heads)


def kind_by_slurm(node: Node) -> FailureKind | None:
    """What Slurm did to a node; None where it did nothing, or nothing yet."""
    return None if node.job is None else _BY_STATE.get(node.job.state)


def lacks_a_cause(evidence: Evidence) -> bool:
    """Whether the payload lost a process elsewhere and nothing tells why, yet: nodes report within
    seconds what they have seen."""
    record = evidence.record
    if record is None or record.status != "FAILED" or _killed_for_memory(evidence):
        return False
    said = _exception_text(evidence.pipes.exception) or evidence.tail
    return _mentions(said, _NODE_ERRORS) and not _abnormal(evidence.nodes, record.started)


def was_ended_from_outside(ended: Ended | None) -> bool:
    """Whether the payload got one of the signals by which Slurm ends a job."""
    if ended is not None and ended.was_stopped:
        return True
    return _was_ended_by(ended, _SIGTERM) or _was_ended_by(ended, _SIGKILL)


def _is_cut_short(evidence: Evidence) -> bool:
    """Whether the payload was asked to end and did, for all we know before it was done."""
    record, ended = evidence.record, evidence.ended
    has_rays_word = record is not None and record.is_terminal
    return ended is not None and ended.was_stopped and not has_rays_word


def _failure(evidence: Evidence, exit_code: int | None) -> tuple[FailureKind, str]:
    record, ended = evidence.record, evidence.ended
    said = _exception_text(evidence.pipes.exception) or evidence.tail
    nodes = _abnormal(evidence.nodes, record.started if record else None)
    killed = _killed_for_memory(evidence)
    node_words = "".join(f"\nSlurm: node {n.node_id} (job {n.slurm_id}) {n.ended}" for n in nodes)
    error_type = record.error_type if record else ""
    if error_type in _BY_RAY_ERROR and exit_code is None:
        kind = _BY_RAY_ERROR[error_type]
        if error_type == "JOB_SUPERVISOR_ACTOR_DIED" and nodes:
            kind = _kind_of(nodes)
        assert record is not None
        return kind, f"{_lead(kind)}: {record.message.strip()}{node_words}"
    was_killed = _was_ended_by(ended, _SIGKILL)
    # A kernel kill elsewhere in the same Slurm job explains nothing if the payload's own exception
    # tells another story.
    has_own_story = not was_killed and evidence.pipes.exception is not None
    kernel_kill = ended is not None and ended.oom_kills > 0 and not has_own_story
    if kernel_kill or _mentions(said, _MEMORY_ERRORS):
        kind = FailureKind.OUT_OF_MEMORY
    elif killed and _mentions(said, _NODE_ERRORS):
        kind = FailureKind.OUT_OF_MEMORY
        node_words += "".join(
            f"\nthe kernel killed processes for memory on node {n.node_id} (job {n.slurm_id})"
            for n in killed
        )
    elif nodes and (_mentions(said, _NODE_ERRORS) or was_ended_from_outside(ended)):
        kind = _kind_of(nodes)
    elif evidence.is_cluster_gone and was_ended_from_outside(ended):
        kind = FailureKind.CLUSTER_ENDED
    elif exit_code in (126, 127) or _mentions(said, _IMPORT_ERRORS):
        kind = FailureKind.ENVIRONMENT
    else:
        kind = FailureKind.PAYLOAD
    lead = _lead(kind)
    if kind is FailureKind.ENVIRONMENT and _mentions(said, _IMPORT_ERRORS):
        lead = (
            "a module is missing where the payload ran, in the environment as well as beside the "
            "payload and in its working_dir"
        )
    how = f"exit code {exit_code}" if exit_code is not None else "no exit code"
    if was_killed:
        how += ", killed by SIGKILL"
    elif ended is not None and ended.was_stopped:
        how += ", after it was asked to end"
    if ended is not None and ended.oom_kills:
        how += f"; the kernel killed {ended.oom_kills} of its processes for memory"
    if exit_code is None and record is not None and record.message:
        how = record.message.strip()
    return kind, _with_output(f"{lead} ({how}){node_words}", evidence)


def _was_ended_by(ended: Ended | None, signum: int) -> bool:
    return ended is not None and (ended.signal == signum or ended.exit_code == 128 + signum)


def _exit_code(evidence: Evidence) -> int | None:
    if evidence.ended is not None:
        return evidence.ended.exit_code
    return evidence.record.exit_code if evidence.record is not None else None


def _pipes_failure(pipes: PipesReport) -> str | None:
    """Why its results cannot be relied on, None if they can."""
    if pipes.problems:
        return f"not all of its messages could be read: {'; '.join(pipes.problems[:3])}"
    if not pipes.has_opened:
        return (
            "it never opened Dagster Pipes, so nothing is known of its results: call "
            "open_dagster_pipes() in the payload, or set strict=False"
        )
    if not pipes.has_closed:
        return (
            "it did not close Dagster Pipes, so messages may be missing: use open_dagster_pipes() "
            "in a `with` block, or set strict=False"
        )
    return None


def _kind_of(nodes: Sequence[Node]) -> FailureKind:
    kinds = (kind_by_slurm(node) for node in nodes)
    return next((kind for kind in kinds if kind is not None), FailureKind.NODE_FAILED)


def _abnormal(nodes: Sequence[Node], since: float | None) -> list[Node]:
    """Ended by other than their own will, while the job ran.

    A worker that was cancelled is one that Ray did not need any more.
    """
    found = []
    for node in nodes:
        if node.ended is None or node.job is None:
            continue
        is_unneeded = node.kind != "head" and node.job.state is JobState.CANCELLED
        if is_unneeded or node.job.state not in _BY_STATE:
            continue
        if since is None or node.job.end_time is None or node.job.end_time >= since:
            found.append(node)
    return found


def _killed_for_memory(evidence: Evidence) -> list[Node]:
    """The nodes on which the kernel did so while the job ran."""
    since = (evidence.record.started if evidence.record else None) or 0.0
    return [n for n in evidence.nodes if n.memory_killed_at and n.memory_killed_at >= since]


def _lead(kind: FailureKind) -> str:
    return {
        FailureKind.PAYLOAD: "the payload failed",
        FailureKind.OUT_OF_MEMORY: "the payload ran out of memory",
        FailureKind.WALLTIME: "a node of the cluster reached its time limit under the payload",
        FailureKind.PREEMPTED: "a node of the cluster was preempted under the payload",
        FailureKind.NODE_FAILED: "a node of the cluster failed under the payload",
        FailureKind.CANCELLED: "the cluster's Slurm job was cancelled under the payload",
        FailureKind.CLUSTER_ENDED: "the cluster was taken down under the payload",
        FailureKind.ENVIRONMENT: "the environment on the cluster is broken",
        FailureKind.REFUSED: "Ray could not start the payload",
        FailureKind.CONFIGURATION: "what was asked for cannot be",
        FailureKind.CONNECTION: "the edge node could not be reached",
        FailureKind.QUEUE_TIMEOUT: "the cluster did not start in time",
        FailureKind.UNKNOWN: "the Ray job failed",
    }[kind]


def _with_output(words: str, evidence: Evidence) -> str:
    traceback = _exception_text(evidence.pipes.exception)
    if traceback:
        return f"{words}\n{traceback}"
    return f"{words}\n--- last lines of its output\n{evidence.tail}" if evidence.tail else words


def _exception_text(exception: Mapping[str, Any] | None) -> str:
    """As Python prints it, causes first."""
    if not exception:
        return ""
    parts = []
    if exception.get("cause"):
        parts.append(_exception_text(exception["cause"]))
        parts.append("\nThe above exception was the direct cause of the following exception:\n")
    elif exception.get("context"):
        parts.append(_exception_text(exception["context"]))
        parts.append("\nDuring handling of the above exception, another exception occurred:\n")
    parts.append("Traceback (most recent call last):")
    parts += [line.rstrip("\n") for line in exception.get("stack") or []]
    parts.append(str(exception.get("message") or exception.get("name")).rstrip("\n"))
    return "\n".join(parts)


def _mentions(text: str, words: Sequence[str]) -> bool:
    return any(word in text for word in words)
