"""A node's place in a heterogeneous job, read from the environment (pure)."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from slurm_provider.agent.allocation import job_started

VARIABLE = "RAY_SLURM_COMPONENT"
"""Carries a component's place from the head's agent to its own."""


@dataclass(frozen=True)
class Component:
    """A node's place in a heterogeneous job, where Slurm tells a step less than a batch script."""

    number: int
    leader_id: str
    """What srun calls the job, for all components."""
    job_id: str
    started: float
    """Epoch seconds."""
    cpus: int
    memory: Mapping[str, str]
    """Slurm's variables about memory, as a batch script has them."""

    def environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """A step's environment as the batch script of such a job alone would have it."""
        return {**environ, **self.memory, "SLURM_JOB_ID": self.job_id}


def own_component(environ: Mapping[str, str]) -> Component | None:
    """This node's place, or None outside heterogeneous jobs."""
    text = environ.get(VARIABLE)
    if text is not None:
        return Component(**json.loads(text))
    if "SLURM_HET_SIZE" not in environ:
        return None
    return read_component(environ, 0, job_started(environ, time.time()))


def read_component(environ: Mapping[str, str], number: int, started: float) -> Component:
    """A component by the environment of the job's batch script."""
    suffix = f"_HET_GROUP_{number}"
    per_what = ("NODE", "CPU", "GPU")
    given = {f"SLURM_MEM_PER_{what}": f"SLURM_MEM_PER_{what}{suffix}" for what in per_what}
    cpus = re.match(r"\d+", environ.get(f"SLURM_JOB_CPUS_PER_NODE{suffix}", "1"))
    return Component(
        number=number,
        leader_id=environ["SLURM_JOB_ID"],
        job_id=environ[f"SLURM_JOB_ID{suffix}"],
        started=started,
        cpus=int(cpus.group()) if cpus else 1,
        memory={name: environ[key] for name, key in given.items() if key in environ},
    )
