"""Which of a session's clusters to use (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dagster_glue.clusters.shape import Shape, fingerprint, fits, size
from dagster_glue.clusters.site import Sighting
from dagster_glue.modes import ExecutionMode

FORMAT = 1
"""Of SESSION_FILE. A cluster of another version of this package is left to that."""
LEAST_TIME_LEFT_S = 300.0
"""A head whose time limit is nearer takes no new work; of short limits, a tenth counts."""
_LEAST_SHARE_LEFT = 0.1


@dataclass(frozen=True)
class Wish:
    """What a step asks of a session."""

    session: str
    shape: dict[str, Any]
    reuse: bool
    """Another shape that is large enough will do."""
    larger: Shape | None = None
    """With ``reuse``: the shape to make where it is large enough, so that those who ask for less
    and those who ask for this share one cluster."""
    lease_key: str = ""
    """Leases of this step begin with it, those of earlier attempts, too."""

    def descriptor(self) -> dict[str, Any]:
        """The content of SESSION_FILE for a cluster that is made for this."""
        return {
            "format": FORMAT,
            "mode": ExecutionMode.SLURM_SESSION.value,
            "session": self.session,
            "fingerprint": fingerprint(self.shape_to_make),
            "shape": self.shape_to_make,
        }

    @property
    def shape_to_make(self) -> Shape:
        if self.reuse and self.larger is not None and fits(self.larger, self.shape):
            return self.larger
        return self.shape


def choose(sightings: Sequence[Sighting], wish: Wish) -> Sighting | None:
    """The cluster to use, None where one has to be made.

    First the one that an earlier attempt of the same step used, whose job may still run there;
    then one of exactly this shape; then the smallest that is large enough.
    """
    able = [s for s in sightings if s.is_usable and _is_for(s, wish)]
    before = [s for s in able if _was_used(s, wish)]
    if before:
        return before[0]
    lasting = [s for s in able if has_time_left(s)]
    return min(lasting, key=lambda s: _rank(s, wish), default=None)


def has_time_left(sighting: Sighting) -> bool:
    """Whether the head stays long enough for new work, as far as can be known."""
    left_s = sighting.head_time_left_s
    if left_s is None:
        return True
    limits = [job.time_limit_s for job in sighting.heads if job.time_limit_s is not None]
    return left_s >= min(LEAST_TIME_LEFT_S, _LEAST_SHARE_LEFT * min(limits))


def free_names(wish: Wish) -> list[str]:
    """The names that a cluster to be made may have, the first one mostly: the others are for as
    long as a cluster of that name is ending."""
    first = f"{wish.session}-{fingerprint(wish.shape_to_make)}"
    return [first, *(f"{first}-{number}" for number in range(2, 100))]


def _is_for(sighting: Sighting, wish: Wish) -> bool:
    session = sighting.folder.session
    if (session.get("format"), session.get("session")) != (FORMAT, wish.session):
        return False
    if session["fingerprint"] == fingerprint(wish.shape):
        return True
    return wish.reuse and fits(session["shape"], wish.shape)


def _was_used(sighting: Sighting, wish: Wish) -> bool:
    return any(lease.name.startswith(f"{wish.lease_key}-") for lease in sighting.folder.leases)


def _rank(sighting: Sighting, wish: Wish) -> tuple[Any, ...]:
    session = sighting.folder.session
    is_other = session["fingerprint"] != fingerprint(wish.shape)
    return is_other, size(session["shape"]), sighting.name
