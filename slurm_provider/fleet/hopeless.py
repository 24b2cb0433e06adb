"""Queued nodes that Slurm will never start as they were asked for.

Most of them sbatch refuses. But where a limit is no reason to refuse (a QOS without DenyOnLimit,
EnforcePartLimits=NO) the job is taken and waits for ever, and Ray waits with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from slurm_provider.fleet.identity import WORKER
from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import PendingReason, ReasonKind, explain

# A limit that is being changed, or accounting that has just been restarted, may say so for a while.
NEVER_GRACE_S = 300.0

_explain = lru_cache(maxsize=1024)(explain)


class Hopeless:
    """Remembers since when each node's reason is one that does not pass."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def look(self, nodes: Iterable[Node], now: float) -> list[Node]:
        """Workers that have had such a reason in every listing for ``NEVER_GRACE_S``."""
        never = {node.node_id: node for node in nodes if node.kind == WORKER and _is_never(node)}
        self._since = {name: self._since.get(name, now) for name in never}
        return [n for name, n in never.items() if now - self._since[name] >= NEVER_GRACE_S]

    def forget(self) -> None:
        """Slurm gave no answer, so nobody knows what it would have said meanwhile."""
        self._since.clear()


def why(node: Node) -> str:
    """Its reason in words, with Slurm's own."""
    assert node.job is not None
    return f"job {node.job.job_id} {_reason(node).sentence} (Slurm: {node.job.reason})"


def _is_never(node: Node) -> bool:
    is_queued = node.is_live and node.job is not None and node.job.state.is_pending
    return is_queued and _reason(node).kind is ReasonKind.NEVER


def _reason(node: Node) -> PendingReason:
    assert node.job is not None
    return _explain(node.job.reason)
