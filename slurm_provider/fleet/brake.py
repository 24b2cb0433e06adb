"""When a node type keeps failing: wait longer each time, then stop and say so (pure).

A broken environment or a full quota fails within seconds, and Ray asks again every tick; without
a brake that is thousands of jobs a day on somebody's account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

# Seconds to wait after the 1st, 2nd, ... failure in a row; after the last one the type is paused.
# The first step is short because single jobs fail for passing reasons (a bad host, a full disk).
BACK_OFF_S = (5.0, 20.0, 60.0, 180.0)


@dataclass
class TypeBrake:
    """Failures in a row of one node type."""

    failures: int = 0
    wait_until: float = 0.0
    paused: bool = False
    cause: str = ""
    where: list[str] = field(default_factory=list)  # node ids and log paths of the failures


class Brake:
    """The state per node type."""

    def __init__(self) -> None:
        self._types: dict[str, TypeBrake] = {}

    def failed(self, node_type: str, cause: str, now: float, where: str = "") -> None:
        """A node of the type ended before it joined Ray."""
        state = self._types.setdefault(node_type, TypeBrake())
        if state.paused or now < state.wait_until:
            # Nodes of one launch fail together: that is one failure, not many.
            return
        state.cause = cause
        if where:
            state.where = [*state.where[-4:], where]
        state.failures += 1
        if state.failures > len(BACK_OFF_S):
            state.paused = True
        else:
            state.wait_until = now + BACK_OFF_S[state.failures - 1]

    def pause(self, node_type: str, cause: str) -> None:
        """Slurm refused the type for good: trying again is no use until something changes."""
        state = self._types.setdefault(node_type, TypeBrake())
        state.paused, state.cause = True, cause

    def joined(self, node_type: str) -> None:
        self._types.pop(node_type, None)

    def release(self) -> None:
        """The user fixed it: forget everything."""
        self._types.clear()

    def hold_reason(self, node_type: str, now: float) -> str | None:
        """Why no job of the type may be submitted now, or None."""
        state = self._types.get(node_type)
        if state is None:
            return None
        if state.paused:
            return f"node type {node_type!r} is paused: {state.cause}"
        if now < state.wait_until:
            return (
                f"node type {node_type!r} failed {state.failures} time(s) in a row, next try in "
                f"{state.wait_until - now:.0f} s: {state.cause}"
            )
        return None

    def is_suspect(self, node_type: str) -> bool:
        """True while the type has failed and not yet proved itself."""
        return node_type in self._types

    def snapshot(self) -> Mapping[str, dict[str, Any]]:
        """For ``autoscaler.json``."""
        return {name: asdict(state) for name, state in self._types.items()}
