"""How nodes did, by their own reports and logs: what ended before it joined Ray, what proved a
suspect type well."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from slurm_provider.errors import ClusterError
from slurm_provider.fleet.identity import HEAD
from slurm_provider.fleet.ledger import Node
from slurm_provider.fleet.state import FleetState
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import TransportError

logger = logging.getLogger(__name__)

_TAIL_LINES = 5
_UNREADABLE = (OSError, TransportError, ClusterError)


class Postmortem:
    """Tells the brake; its methods are for one thread, the watcher's."""

    def __init__(self, state: FleetState, store: ClusterStore, clock: Callable[[], float]) -> None:
        self._state = state
        self._store = store
        self._clock = clock
        self._waiting: list[Node] = []

    def take(self, ended: Iterable[Node]) -> None:
        """Nodes that a listing showed to have ended; each end is reported once."""
        self._waiting += ended

    def judge(self) -> None:
        """Look at what was taken; what cannot be read now is looked at again next time."""
        waiting, self._waiting = self._waiting, []
        for node in waiting:
            try:
                self._judge_ended(node)
            except _UNREADABLE as error:
                logger.warning("how node %s ended cannot be read yet: %s", node.node_id, error)
                self._waiting.append(node)
        with self._state.lock:
            suspects = [
                node
                for node in self._state.ledger.live()
                if node.is_running and self._state.brake.suspect_since(node.node_type) is not None
            ]
        for node in suspects:
            try:
                joined_at = self._joined_at(node)
            except _UNREADABLE as error:
                logger.warning("whether node %s joined cannot be read: %s", node.node_id, error)
                return
            if joined_at is not None:
                with self._state.lock:
                    self._state.brake.joined(node.node_type, joined_at)

    def _judge_ended(self, node: Node) -> None:
        if node.cancel_asked or node.kind == HEAD or self._joined_at(node) is not None:
            return
        report = self._store.report(node.node_id) or {}
        cause = str(report.get("reason") or node.ended)
        log = self._store.paths.log(node.node_id)
        logger.error(
            "node %s (job %s, type %s) ended before it joined Ray: %s\n%s\nlog: %s",
            node.node_id, node.slurm_id, node.node_type, cause,
            self._store.log_tail(node.node_id, _TAIL_LINES), log,
        )  # fmt: skip
        with self._state.lock:
            self._state.brake.failed(node.node_type, cause, self._clock(), log)

    def _joined_at(self, node: Node) -> float | None:
        if node.joined_at is None:
            report = self._store.report(node.node_id)
            if report is not None and "joined" in report:
                node.joined_at = float(report["joined"])
        return node.joined_at
