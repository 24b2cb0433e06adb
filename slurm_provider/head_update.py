"""The set-up that `ray up` runs on the head, and what a `ray up` that is over leaves."""

from __future__ import annotations

import atexit
import contextlib
import threading
from typing import Any

from slurm_provider.access import NodeAccess
from slurm_provider.cluster import Cluster
from slurm_provider.command_end import Unfinished
from slurm_provider.errors import ClusterError


class HeadUpdate:
    """One update of the head, by a thread that is a daemon of Ray's: Ctrl-C leaves it without a
    word, and without this also the commands that it runs."""

    def __init__(self, cluster: Cluster, node_id: str) -> None:
        self._cluster = cluster
        self._node_id = node_id
        self._thread = threading.current_thread()
        self._running: Any = None
        self._is_left = False
        atexit.register(self._leave)

    def run(self, node: NodeAccess, cmd: str) -> None:
        """A set-up command; raises ClusterError when it fails."""
        try:
            code, words = node.stream(cmd, self._started)
        except Unfinished as error:
            self._stop_if_left()
            raise error.of(f"the set-up command {cmd!r}") from None
        self._stop_if_left()
        if code != 0:
            more = f"\n{words}" if words else ""
            raise ClusterError(f"the set-up ended with exit code {code}: {cmd}{more}")

    def _stop_if_left(self) -> None:
        if self._is_left:
            raise SystemExit(1)  # Ctrl-C ended it, and needs no other words

    def _started(self, process: Any) -> None:
        self._running = process

    def _leave(self) -> None:
        # A join that Ctrl-C interrupts may mark a living thread as ended (CPython, bpo-45274).
        if self._thread not in threading.enumerate():
            return
        self._is_left = True
        print("\n".join(what_stays(self._cluster, self._node_id)), flush=True)
        if self._running is not None:
            # Over SSH that takes a thread, and later Pythons start none any more.
            with contextlib.suppress(RuntimeError):
                self._running.terminate()


def what_stays(cluster: Cluster, node_id: str) -> list[str]:
    """A line on the head that a `ray up` which is over leaves, as far as is known; no line where
    it is gone."""
    node = cluster.fleet.node(node_id)
    if node is None or not node.is_live:
        return []
    if node.is_pending:
        return [
            "The head's job stays in Slurm's queue: `ray up` again goes on waiting for it, "
            "`ray down` withdraws it."
        ]
    head = "head" if node.on_edge else f"head's job {node.slurm_id}"
    return [f"The {head} goes on running: `ray up` again goes on with it, `ray down` ends it."]
