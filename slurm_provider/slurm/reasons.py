"""Why a job is pending, or why it ended, in human words with a next step (pure).

Source: the complete table of reason codes of Slurm (`man squeue`, JOB REASON CODES, and
https://slurm.schedmd.com/job_reason_codes.html), 22.05 to 26.05.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class ReasonKind(Enum):
    """What a reason means for somebody who waits."""

    WAITING = "waiting"
    """Its turn comes by itself."""
    LIMITED = "limited"
    """A quota must free up first."""
    HELD = "held"
    """Somebody must release it."""
    NEVER = "never"
    """It can never run as it was asked for, unless the site changes."""
    ENDED = "ended"
    """Not pending: why it ended."""
    UNKNOWN = "unknown"

    @property
    def label(self) -> str:
        """What to put before a reason; empty if there is nothing to add."""
        return _LABELS.get(self, "")


_LABELS = {
    ReasonKind.WAITING: "waiting its turn",
    ReasonKind.LIMITED: "limited by a quota",
    ReasonKind.HELD: "held",
    ReasonKind.NEVER: "can never run",
}


@dataclass(frozen=True)
class PendingReason:
    """A reason explained; ``text`` is one sentence without a full stop."""

    kind: ReasonKind
    text: str

    @property
    def sentence(self) -> str:
        """The text after what kind of reason it is."""
        return f"{self.kind.label}: {self.text}" if self.kind.label else self.text


def explain(reason: str) -> PendingReason:
    """Explain a reason as squeue prints it: ``Priority``, ``(Resources)``,
    ``ReqNodeNotAvail, UnavailableNodes:n[1-2]``, ``RaisedSignal:9(Killed)``.

    An unknown reason keeps Slurm's words and is ``ReasonKind.UNKNOWN``.
    """
    words = reason.strip()
    if words.startswith("(") and words.endswith(")"):
        words = words[1:-1].strip()
    for pattern, explained in _SENTENCES:
        if pattern in words.lower():
            return explained
    code, detail = _split_detail(words)
    explained_code = _CODES.get(code) or _explain_limit(code)
    if explained_code is None:
        return PendingReason(ReasonKind.UNKNOWN, f"Slurm says: {words}")
    if detail:
        return PendingReason(explained_code.kind, f"{explained_code.text} ({detail})")
    return explained_code


def _split_detail(words: str) -> tuple[str, str]:
    code, _, detail = words.partition(",")
    if not detail:
        code, _, detail = words.partition(":")
    detail = detail.replace("UnavailableNodes:", "unavailable: ").strip(" ,")
    return code.strip(), detail


def _explain_limit(code: str) -> PendingReason | None:
    match = _LIMIT.fullmatch(code)
    what = _WHAT.get(match["what"]) if match is not None else None
    if match is None or what is None:
        return None
    who = "your account" if match["who"] == "Assoc" else "the QOS"
    if match["minutes"]:
        what = f"{what} times minutes"
    if match["scope"] == "Min":
        return _never(f"it asks for fewer {what} than {who} demands: ask for more")
    if match["what"] == "WallDuration":
        return _never(f"its time limit is longer than {who} allows: ask for a shorter time")
    if match["per"] in ("Job", "Node"):
        size = "a job" if match["per"] == "Job" else "a node"
        return _never(f"it asks for more {what} than {who} allows {size}: ask for less")
    if match["scope"] == "Grp":
        if match["what"] == "Wall" or match["minutes"] == "Minutes":
            return _limited(f"{who} has used up its budget of {what}: wait, or use another")
        return _limited(
            f"{who} is at its limit of {what} for all users together: it starts when jobs there end"
        )
    whose = "all users of your account" if match["per"] == "Account" else "you"
    return _limited(f"{whose} are at the limit of {what} of {who}: it starts when such jobs end")


_LIMIT = re.compile(
    r"(?P<who>Assoc|QOS|)(?P<scope>Grp|Max|Min)(?P<what>[A-Za-z]+?)"
    r"(?P<minutes>RunMinutes|Minutes)?(?:Per(?P<per>Job|Node|User|Account))?"
    r"(?:Limit|NotSatisfied)?"
)
_WHAT = {
    "BB": "burst buffer",
    "Billing": "billed resources",
    "CPU": "CPUs",
    "Cpu": "CPUs",
    "Energy": "energy",
    "GRES": "GPUs or other generic resources",
    "Job": "running jobs",
    "Jobs": "running jobs",
    "License": "licenses",
    "Mem": "memory",
    "Memory": "memory",
    "Node": "hosts",
    "SubmitJob": "submitted jobs",
    "SubmitJobs": "submitted jobs",
    "Unknown": "unnamed resources",
    "Wall": "wall time",
    "WallDuration": "wall time",
}


def _waiting(text: str) -> PendingReason:
    return PendingReason(ReasonKind.WAITING, text)


def _limited(text: str) -> PendingReason:
    return PendingReason(ReasonKind.LIMITED, text)


def _held(text: str) -> PendingReason:
    return PendingReason(ReasonKind.HELD, text)


def _never(text: str) -> PendingReason:
    return PendingReason(ReasonKind.NEVER, text)


def _ended(text: str) -> PendingReason:
    return PendingReason(ReasonKind.ENDED, text)


_CODES = {
    # Its turn comes by itself.
    "": _waiting("Slurm gives no reason yet"),
    "None": _waiting("Slurm has not looked at it yet"),
    "WaitingForScheduling": _waiting("Slurm has not looked at it yet"),
    "Priority": _waiting("jobs with higher priority are ahead in the queue"),
    "Resources": _waiting("it is first in the queue and waits for free resources"),
    "BeginTime": _waiting("its earliest start time (begin, or a delay after a requeue) is to come"),
    "Dependency": _waiting("it waits for the jobs it depends on"),
    "Licenses": _waiting("it waits for a free license"),
    "Reservation": _waiting("it waits for its reservation to begin"),
    "ReqNodeNotAvail": _waiting(
        "a host it needs is down, drained, reserved or in maintenance: wait, "
        "or ask for less specific hosts or a shorter time"
    ),
    "NodeDown": _waiting("a host it needs is down: wait for the administrators, or ask for others"),
    "FrontEndDown": _waiting("no front end host is up: wait for the administrators"),
    # Our jobs ask for one host, so that a limit of hosts is seldom meant.
    "PartitionNodeLimit": _waiting(
        "the partition's hosts are down or drained, or it takes no jobs of so few hosts: wait, "
        "or use another partition"
    ),
    "PartitionDown": _waiting("the partition starts no jobs now: wait, or use another partition"),
    "PartitionInactive": _waiting("the partition is switched off: wait, or use another partition"),
    "Prolog": _waiting("the site's preparation program is still running"),
    "Cleaning": _waiting("its previous run is still being cleaned up"),
    "BurstBufferResources": _waiting("it waits for burst buffer space"),
    "BurstBufferStageIn": _waiting("its burst buffer is being filled"),
    "PowerNotAvail": _waiting("it waits for electric power to be available"),
    "PowerReserved": _waiting("electric power is reserved for others"),
    "MaxPoweredUpNodes": _waiting("the site has as many hosts powered up as it allows"),
    "FedJobLock": _waiting("another cluster of the federation is just deciding about it"),
    "SchedDefer": _waiting("the site schedules jobs later, not at submission"),
    # A quota must free up.
    "JobArrayTaskLimit": _limited("its job array runs as many tasks at once as allowed"),
    "AssociationJobLimit": _limited("your account is at its limit of jobs"),
    "AssociationResourceLimit": _limited("your account is at a limit of resources"),
    "AssociationTimeLimit": _limited("your account has used up its time"),
    "QOSJobLimit": _limited("the QOS is at its limit of jobs"),
    "QOSResourceLimit": _limited("the QOS is at a limit of resources"),
    "QOSTimeLimit": _limited("the QOS has used up its time"),
    "QOSUsageThreshold": _limited("your account has used too much for this QOS: use another QOS"),
    "AccountingPolicy": _limited("a limit of the site's accounting policy is reached"),
    # Somebody must act on the job.
    "JobHeldUser": _held("it is held by its owner: `scontrol release JOBID`"),
    "JobHeldAdmin": _held("it is held by an administrator: ask the site's support"),
    "JobHoldMaxRequeue": _held(
        "it failed to start too often: see its log, then `scontrol release`"
    ),
    "ReservationDeleted": _held("its reservation was deleted: choose another, then submit again"),
    # Never, as asked for.
    "PartitionConfig": _never(
        "no host of the partition has what it asks for: ask for less, or use another partition"
    ),
    "PartitionTimeLimit": _never(
        "its time limit is longer than the partition allows: ask for a shorter time"
    ),
    "BadConstraints": _never("no host satisfies its constraint: check constraint, gres and mem"),
    "Constraints": _never("no host satisfies its constraint: check constraint, gres and mem"),
    "DependencyNeverSatisfied": _never("a job it depends on ended otherwise: submit without it"),
    "AccountNotAllowed": _never("the partition or QOS does not admit your account: use another"),
    "QOSNotAllowed": _never("the partition or account does not admit this QOS: use another"),
    "InvalidAccount": _never("the account is not valid: see `sacctmgr show assoc user=$USER`"),
    "InvalidQOS": _never("the QOS is not valid: see `sacctmgr show assoc user=$USER`"),
    "ReservationInvalid": _never("its reservation is not valid for it: choose another"),
    "MaxMemPerLimit": _never("it asks for more memory than a job may have: ask for less"),
    "BurstBufferOperation": _never("a burst buffer operation failed: check bb"),
    # Why it ended.
    "DeadLine": _ended("its deadline passed"),
    "InactiveLimit": _ended("the site ended it as inactive"),
    "JobLaunchFailure": _ended("it could not be started: see its log, and slurmd's on that host"),
    "NonZeroExitCode": _ended("its script ended with an error: see its log"),
    "OutOfMemory": _ended("it used more memory than it had asked for: ask for more"),
    "RaisedSignal": _ended("it was ended by a signal"),
    "SystemFailure": _ended("Slurm, a file system or the network failed"),
    "TimeLimit": _ended("it reached its time limit"),
}

# Reasons that Slurm writes as free text.
_SENTENCES = (
    (
        "nodes required for job are down, drained or reserved",
        _waiting("the hosts it could use are down, drained or reserved for others"),
    ),
    (
        "user env retrieval failed",
        _held("the login environment could not be loaded on the host: `scontrol release JOBID`"),
    ),
    ("launch failed requeued held", _held("it failed to start and is held: see slurmd's log")),
    ("requeued in held state", _held("it was requeued and is held: `scontrol release JOBID`")),
)
