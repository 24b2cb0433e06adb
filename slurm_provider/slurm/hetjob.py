"""Heterogeneous jobs: components with options of their own that start together (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Slurm's MAX_HET_JOB_COMPS: what sbatch takes, the first component included (22.05 to 26.05).
MAX_COMPONENTS = 128

# A component without one of these gets that of a component before it (`sbatch -v` on 22.05).
CARRIED_OVER = frozenset({
    "account", "acctg-freq", "begin", "cluster-constraint", "clusters", "comment", "container",
    "deadline", "delay-boot", "dependency", "exclude", "hint", "hold", "kill-on-invalid-dep",
    "mcs-label", "mem", "nice", "prefer", "priority", "profile", "propagate", "qos", "reboot",
    "reservation", "time", "time-min", "wait-all-nodes", "wckey",
})  # fmt: skip


@dataclass(frozen=True)
class Component:
    """What a part of a heterogeneous job asks for; the options are as a Submission's."""

    options: Mapping[str, object] = field(default_factory=dict)
    provider_options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class CarriedOver:
    """An option that sbatch would give a component although it does not have it."""

    option: str
    source: int
    """Number of the component that has it."""
    target: int
    """Number of the component that would get it."""


def carried_over(components: Sequence[Mapping[str, object]]) -> CarriedOver | None:
    """The first option that would leave its component, for their options in order; or None."""
    seen: dict[str, int] = {}
    for number, options in enumerate(components):
        for option in sorted(seen.keys() - options.keys()):
            return CarriedOver(option, seen[option], number)
        seen.update(dict.fromkeys(options.keys() & CARRIED_OVER, number))
    return None
