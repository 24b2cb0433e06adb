"""Which held nodes may be submitted now (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from slurm_provider.fleet.brake import Brake
from slurm_provider.fleet.ledger import Node

# An sbatch that timed out may still be carried out; it is repeated only after a listing asked for
# this long after Slurm's last silence (slurmctld's own message time-out is 10 s).
UNSURE_S = 15.0


@dataclass(frozen=True)
class Admission:
    """``ready`` may go; the others wait for ``reason``, or keep the one they have."""

    ready: tuple[Node, ...]
    reason: str | None


def admit(
    held: Sequence[Node],
    nodes: Iterable[Node],
    brake: Brake,
    max_pending: int | None,
    now: float,
    listed_at: float | None,
) -> Admission:
    """Decide about held nodes of one type; ``nodes`` are all of the cluster's."""
    sure = [node for node in held if not is_unsure(node, listed_at)]
    if not sure:
        return Admission((), None)
    node_type = sure[0].node_type
    reason = brake.hold_reason(node_type, now)
    if reason is not None:
        return Admission((), reason)
    under_way = [node for node in nodes if node.is_live and node.held is None]
    room, reason = len(sure), None
    portion = brake.portion(node_type)
    if portion is not None and portion.size < room:
        room, reason = portion.size, portion.cause
    if max_pending is not None:
        left = max_pending - sum(node.is_pending for node in under_way)
        if left < room or reason is None:
            room, reason = left, f"provider.max_pending: {max_pending} jobs wait already"
    suspect_since = brake.suspect_since(node_type)
    if suspect_since is not None and room > 0:
        is_tried = any(_is_trial(node, node_type, suspect_since) for node in under_way)
        room = 0 if is_tried else 1
        reason = f"nodes of type {node_type!r} failed; one tries it out before the others follow"
    return Admission(tuple(sure[: max(0, room)]), reason)


def is_unsure(node: Node, listed_at: float | None) -> bool:
    """True while the node may be in Slurm already, though no listing shows it yet."""
    if node.unsure_since is None:
        return False
    return listed_at is None or listed_at < node.unsure_since + UNSURE_S


def _is_trial(node: Node, node_type: str, suspect_since: float) -> bool:
    begun = node.submitted_at if node.unsure_since is None else node.unsure_since
    return node.node_type == node_type and begun is not None and begun >= suspect_since
