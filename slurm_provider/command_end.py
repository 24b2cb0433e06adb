"""How a command on a node ended, from evidence (pure).

``job_scripts/command.sh`` notes in a file that the command started and how it ended. Only that
proves an end: srun ends with 0 where the host fails, and a killed srun or a broken connection ends
with codes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from slurm_provider.errors import ClusterError
from slurm_provider.transport import TransportError

UNFINISHED_CODE = 255
"""Exit code of a Ray command whose command on the node is not known to have run to its own end. The
same as of ``ssh`` in that case, and rare among commands' own."""


@dataclass(frozen=True)
class Record:
    """What the file says: the command started, and if ``exit_code`` is not None, it ended."""

    exit_code: int | None = None
    asked_to_end: str = ""
    """The signal (TERM, HUP) that came before its end: by Slurm, or by a lost terminal."""


@dataclass(frozen=True)
class NodeState:
    """The node as Slurm describes it after the command's end."""

    words: str
    """A clause with its own subject: "the head's job 12 ended (node fail)"."""
    has_ended: bool | None
    """None: unknown."""
    is_head: bool = True


@dataclass(frozen=True)
class Evidence:
    """All that is known of a command."""

    record: Record | None
    how: str
    """A clause that says how the near end of it ended: "srun ended with exit code 0"."""
    passed_on: int | None
    """The exit code that came back; None where the connection broke."""
    unreadable: str = ""
    """Why it is unknown whether there is a record."""
    unwritable: str = ""
    """Why there can be none: nothing can be written to the cluster's folder."""


class Unfinished(ClusterError):
    """A command did not run to its own end, as far as is known."""

    def __init__(self, what: str, predicate: str, *, node_has_ended: bool | None) -> None:
        super().__init__(f"{what} {predicate}")
        self.node_has_ended = node_has_ended
        self._predicate = predicate

    def of(self, what: str) -> Unfinished:
        """The same with another subject."""
        return type(self)(what, self._predicate, node_has_ended=self.node_has_ended)


class Dropped(Unfinished, TransportError):
    """The connection broke under the command; for who tries again, an outage like others."""

    def __init__(self, what: str, predicate: str, *, node_has_ended: bool | None) -> None:
        super().__init__(what, predicate, node_has_ended=node_has_ended)
        self.transient = True


def parse_record(data: bytes) -> Record | None:
    """The content of a command's file; None where it says nothing."""
    words = data.decode("ascii", "replace").split()
    if len(words) >= 2 and words[0] == "ended" and words[1].isdigit():
        return Record(int(words[1]), words[2] if len(words) > 2 else "")
    return Record() if words else None


def own_exit_code(record: Record | None, passed_on: int | None) -> int | None:
    """The exit code of a command that ran to its own end; None for any other.

    A success has to arrive here, too, or the end of its output may be missing.
    """
    if record is None or record.exit_code is None or record.asked_to_end or passed_on is None:
        return None
    return record.exit_code or (None if passed_on else 0)


def unfinished(evidence: Evidence, node: NodeState) -> Unfinished:
    """What is known in one sentence, with the next step."""
    kind = Dropped if evidence.passed_on is None else Unfinished
    return kind("the command", _predicate(evidence, node), node_has_ended=node.has_ended)


def srun_words(stderr: str) -> str:
    """What srun itself complained of, empty if it did not."""
    own = [line for line in stderr.splitlines() if line.startswith("srun: error: ")]
    return own[-1].removeprefix("srun: error: ").strip() if own else ""


def _predicate(evidence: Evidence, node: NodeState) -> str:
    record, how = evidence.record, evidence.how
    if record is not None and record.exit_code is not None:
        if record.asked_to_end:
            return (
                f"was ended from outside: it got SIG{record.asked_to_end} and ended with exit code "
                f"{record.exit_code}, and {node.words}{_next_step(node)}"
            )
        return (
            f"ended with exit code {record.exit_code}, but the end of its output may be missing: "
            f"{how}, and {node.words}; run it again if you need that output"
        )
    if record is not None and node.has_ended:
        return f"did not finish: it was running when {node.words}{_next_step(node)}"
    if record is not None:
        return (
            f"is not known to have finished: it had started, {how}, and {node.words}, so it may go "
            "on there; look for it with `ray exec` and `ps x` before you run it again"
        )
    if node.has_ended:
        return f"is not known to have finished: {how}, and {node.words}{_next_step(node)}"
    if evidence.unwritable:
        return (
            f"is not known to have finished: {how}, but its end could not be noted in the "
            f"cluster's folder ({evidence.unwritable}), and {node.words}; make room there, look at "
            "what the command left, and run it again if need be"
        )
    if evidence.unreadable:
        return (
            f"is not known to have finished: {how}, and {evidence.unreadable}, so it may go on; "
            "look for it with `ray exec` and `ps x` before you run it again"
        )
    if evidence.passed_on is None:
        return (
            f"had not started yet: {how}, and {node.words}, so it may still start; look for it "
            "with `ray exec` and `ps x` before you run it again"
        )
    return f"did not start: {how}, and {node.words}; run it again"


def _next_step(node: NodeState) -> str:
    if not node.has_ended:
        return "; look at the node with `ray-slurm status` before you run it again"
    if node.is_head:
        return "; `ray up` starts a new head, where you can run it again"
    return "; run it again on another node"
