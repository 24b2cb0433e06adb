"""slurmctld's own count of the remote calls it got, from the text of ``sdiag`` (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_LINE = re.compile(r"\s+(?P<name>\S+)\s*\(\s*\d+\)\s+count:(?P<count>\d+)\s")


@dataclass(frozen=True)
class RpcCounts:
    """Calls since slurmctld started (or since its last reset)."""

    by_type: Mapping[str, int] = field(default_factory=dict)
    by_user: Mapping[str, int] = field(default_factory=dict)

    def since(self, before: RpcCounts) -> RpcCounts:
        """What came between two readings; names without any are left out."""
        return RpcCounts(
            _difference(self.by_type, before.by_type), _difference(self.by_user, before.by_user)
        )


def parse_sdiag(text: str) -> RpcCounts:
    """The counts in sdiag's text (22.05 to 26.05). Raises ValueError where there are none."""
    sections: dict[str, dict[str, int]] = {"type": {}, "user": {}}
    current: dict[str, int] | None = None
    for line in text.splitlines():
        if not line.startswith((" ", "\t")):
            current = None
            if line.startswith("Remote Procedure Call statistics by message type"):
                current = sections["type"]
            elif line.startswith("Remote Procedure Call statistics by user"):
                current = sections["user"]
        elif current is not None and (match := _LINE.match(line)):
            current[match["name"]] = int(match["count"])
    if not sections["user"]:
        raise ValueError(f"sdiag names no user's calls: {text[:200]!r}")
    return RpcCounts(sections["type"], sections["user"])


def _difference(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    counts = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in counts.items() if count}
