"""What a node's own report and log say about how it did."""

from __future__ import annotations

from slurm_provider.fleet.identity import HEAD
from slurm_provider.fleet.ledger import Node
from slurm_provider.fleet.store import ClusterStore

_TAIL_LINES = 5


def joined_at(node: Node, store: ClusterStore) -> float | None:
    """When the node joined Ray (epoch seconds), or None. Raises OSError, TransportError."""
    if node.joined_at is None:
        report = store.report(node.node_id)
        if report is not None and "joined" in report:
            node.joined_at = float(report["joined"])
    return node.joined_at


def failure(node: Node, store: ClusterStore) -> tuple[str, str] | None:
    """Cause and end of the log of a worker that ended before it joined Ray; else None.

    A node that was cancelled on purpose did not fail. Raises OSError, TransportError.
    """
    if node.cancel_asked or node.kind == HEAD:
        return None
    if joined_at(node, store) is not None:
        return None
    report = store.report(node.node_id) or {}
    cause = str(report.get("reason") or node.ended or "unknown")
    return cause, store.log_tail(node.node_id, _TAIL_LINES)
