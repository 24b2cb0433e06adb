"""Who still wants this cluster: leases as files, renewed by their holders.

A holder (a Dagster step, say) that is killed cannot give anything back, so a lease lasts only as
long as it is renewed. Clocks of different hosts are never compared: a lease is alive while its
content was *seen to change* within its time to live.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping


class LeaseWatch:
    """Decides when the cluster has been without a lease for too long."""

    def __init__(self, unleased_timeout_s: float, now: float) -> None:
        self._timeout_s = unleased_timeout_s
        self._last_leased = now
        self._seen: dict[str, tuple[str, float]] = {}  # name -> content, when it was new

    def alive(self, leases: Mapping[str, str], now: float) -> set[str]:
        """Names of those that are. ``leases`` are the files' contents by name; ``now`` is of a
        monotonic clock, in seconds."""
        for name, content in leases.items():
            known = self._seen.get(name)
            if known is None or known[0] != content:
                self._seen[name] = (content, now)
        self._seen = {name: self._seen[name] for name in leases}
        found = {
            name for name, (content, since) in self._seen.items() if now - since < _ttl_s(content)
        }
        if found:
            self._last_leased = now
        return found

    def is_unwanted(self, leases: Mapping[str, str], now: float) -> bool:
        """True when no lease was alive for the timeout; arguments as of :meth:`alive`."""
        return not self.alive(leases, now) and now - self._last_leased >= self._timeout_s


def read_leases(folder: str) -> dict[str, str]:
    """Contents of the lease files in ``folder``; none where there is no folder."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if name.endswith(".json"):
                with contextlib.suppress(OSError), open(os.path.join(folder, name)) as file:
                    found[name] = file.read()
    return found


def _ttl_s(content: str) -> float:
    try:
        return float(json.loads(content)["ttl_s"])
    except (ValueError, KeyError, TypeError):
        return 0.0  # not a lease: nobody can renew it
