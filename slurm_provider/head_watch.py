"""Noticing that Ray was started again on the head: its services then listen on other ports."""

from __future__ import annotations

import time

from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import TransportError

_LOOK_EVERY_S = 5.0


class HeadWatch:
    """The head as it was published when this was made; may read the shared folder over SSH."""

    def __init__(self, store: ClusterStore) -> None:
        self._store = store
        self._generation = self._published()
        self._next_look = time.monotonic() + _LOOK_EVERY_S

    def has_moved(self) -> bool:
        """Whether another start of Ray was published since. To be called often: looks now and then.

        No answer is no evidence.
        """
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        try:
            published = self._published()
        except (OSError, TransportError):
            return False
        return published is not None and published != self._generation

    def _published(self) -> str | None:
        head = self._store.head()
        return None if head is None else str(head["generation"])
