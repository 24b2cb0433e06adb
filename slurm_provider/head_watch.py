"""Noticing that Ray was started again on the head: its services then listen on other ports."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import TransportError

_LOOK_EVERY_S = 5.0


class HeadWatch:
    """May read the shared folder over SSH."""

    def __init__(self, store: ClusterStore, head: Mapping[str, Any] | None) -> None:
        """``head`` as it was published before."""
        self._store = store
        self._generation = _generation(head)
        self._next_look = time.monotonic() + _LOOK_EVERY_S

    def has_moved(self) -> bool:
        """Whether another start of Ray was published since. To be called often: looks now and then.

        No answer is no evidence.
        """
        if time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + _LOOK_EVERY_S
        try:
            published = _generation(self._store.head())
        except (OSError, TransportError):
            return False
        return published is not None and published != self._generation


def _generation(head: Mapping[str, Any] | None) -> str | None:
    return None if head is None else str(head["generation"])
