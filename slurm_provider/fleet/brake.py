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
# Seconds to wait after the 1st, 2nd, ... sbatch in a row that Slurm did not take for now; the last
# one is repeated. Nothing is broken then, so the type is never paused for it.
DEFER_S = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)


@dataclass
class TypeBrake:
    """Failures in a row of one node type."""

    failures: int = 0
    wait_until: float = 0.0
    failed_at: float = 0.0
    paused: bool = False
    refused: bool = False  # paused by Slurm's own no, which no other node's success outweighs
    cause: str = ""
    where: list[str] = field(default_factory=list)  # log paths of the failures


@dataclass
class _Deferral:
    times: int = 0
    wait_until: float = 0.0
    cause: str = ""


@dataclass(frozen=True)
class Portion:
    """So many nodes at once may be taken, after more were refused for ``cause``."""

    size: int
    cause: str


class Brake:
    """The state per node type."""

    def __init__(self) -> None:
        self._types: dict[str, TypeBrake] = {}
        self._deferrals: dict[str, _Deferral] = {}
        self._portions: dict[str, Portion] = {}
        self._untold: dict[str, str] = {}

    def failed(self, node_type: str, cause: str, now: float, where: str = "") -> None:
        """A node of the type ended before it joined Ray."""
        state = self._types.setdefault(node_type, TypeBrake())
        state.failed_at = now
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
        state.paused, state.refused, state.cause = True, True, cause

    def pause_unheard(self, node_type: str, cause: str) -> None:
        """The same, found out after Slurm had taken the type's jobs; see ``take_untold``."""
        self.pause(node_type, cause)
        self._untold[node_type] = cause

    def take_untold(self, node_type: str) -> str | None:
        """Once after ``pause_unheard``: the cause, for whoever asks for nodes of the type next."""
        return self._untold.pop(node_type, None)

    def joined(self, node_type: str, joined_at: float) -> None:
        """A node of the type joined Ray at that time; proof only if nothing failed since."""
        state = self._types.get(node_type)
        if state is not None and not state.refused and joined_at > state.failed_at:
            del self._types[node_type]

    def defer(self, node_type: str, cause: str, now: float) -> None:
        """Slurm did not answer, or takes no more jobs for now."""
        state = self._deferrals.setdefault(node_type, _Deferral())
        state.cause = cause
        state.wait_until = now + DEFER_S[min(state.times, len(DEFER_S) - 1)]
        state.times += 1

    def limited(self, node_type: str, count: int, cause: str, now: float) -> None:
        """Slurm takes no ``count`` more nodes of the type for now; perhaps half as many."""
        if count == 1:
            self.defer(node_type, cause, now)
            return
        self._portions[node_type] = Portion(count // 2, cause)
        # Not counted: who halves a thousand must not wait longer each time.
        state = self._deferrals.setdefault(node_type, _Deferral())
        state.cause, state.wait_until = cause, now + DEFER_S[0]

    def accepted(self, node_type: str, count: int) -> None:
        """Slurm took ``count`` nodes of the type in one sbatch."""
        self._deferrals.pop(node_type, None)
        portion = self._portions.get(node_type)
        if portion is not None and count >= portion.size:
            self._portions[node_type] = Portion(2 * portion.size, portion.cause)

    def portion(self, node_type: str) -> Portion | None:
        """The most nodes that one sbatch should ask for; None if nothing speaks against all."""
        return self._portions.get(node_type)

    def release(self) -> frozenset[str]:
        """The user fixed it: forget everything. The types that were suspect or paused."""
        released = frozenset(self._types)
        self._types.clear()
        self._deferrals.clear()
        self._portions.clear()
        self._untold.clear()
        return released

    def hold_reason(self, node_type: str, now: float) -> str | None:
        """Why no job of the type may be submitted now, or None."""
        state = self._types.get(node_type)
        if state is not None and state.paused:
            return f"node type {node_type!r} is paused: {state.cause}"
        if state is not None and now < state.wait_until:
            return (
                f"node type {node_type!r} failed {times_in_a_row(state.failures)}, next try in "
                f"{state.wait_until - now:.0f} s: {state.cause}"
            )
        deferral = self._deferrals.get(node_type)
        return deferral.cause if deferral is not None and now < deferral.wait_until else None

    def suspect_since(self, node_type: str) -> float | None:
        """When the type last failed, if it has not proved itself since."""
        state = self._types.get(node_type)
        return None if state is None else state.failed_at

    def snapshot(self) -> Mapping[str, dict[str, Any]]:
        """For ``autoscaler.json``."""
        return {name: asdict(state) for name, state in self._types.items()}


def times_in_a_row(failures: int) -> str:
    """As part of a sentence: ``once``, ``3 times in a row``."""
    return "once" if failures == 1 else f"{failures} times in a row"
