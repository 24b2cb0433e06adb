"""A node's place in a heterogeneous job; variables as Slurm 22.05 sets them."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from slurm_provider.agent.allocation import read_allocation
from slurm_provider.agent.hetjob import VARIABLE, Component, own_component, read_component

BATCH = {
    "SLURM_HET_SIZE": "3",
    "SLURM_JOB_ID": "794",
    "SLURM_JOB_ID_HET_GROUP_0": "794",
    "SLURM_JOB_ID_HET_GROUP_1": "795",
    "SLURM_JOB_ID_HET_GROUP_2": "796",
    "SLURM_JOB_CPUS_PER_NODE_HET_GROUP_0": "1",
    "SLURM_JOB_CPUS_PER_NODE_HET_GROUP_1": "2(x1)",
    "SLURM_MEM_PER_NODE": "300",
    "SLURM_MEM_PER_NODE_HET_GROUP_0": "300",
    "SLURM_MEM_PER_NODE_HET_GROUP_1": "400",
    "SLURM_MEM_PER_CPU_HET_GROUP_2": "250",
}
# Of a step that srun starts in the second component: the job id is the first one's.
STEP = {"SLURM_JOB_ID": "794", "SLURM_CPUS_ON_NODE": "2", "SLURM_JOB_PARTITION": "gpu"}


def test_the_head_is_the_first_component() -> None:
    place = own_component({**BATCH, "RAY_SLURM_STARTED": "1700000000"})
    assert place is not None
    assert (place.number, place.leader_id, place.job_id) == (0, "794", "794")
    assert place.started == 1_700_000_000.0


def test_a_job_of_its_own_is_no_component() -> None:
    assert own_component({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "2"}) is None


def test_a_step_learns_its_place_from_the_head() -> None:
    told = read_component(BATCH, 1, started=1000.0)
    place = own_component({**STEP, VARIABLE: json.dumps(asdict(told))})
    assert place == Component(1, "794", "795", 1000.0, 2, {"SLURM_MEM_PER_NODE": "400"})


@pytest.mark.parametrize(("number", "memory_mb"), [(1, 400), (2, 500)])
def test_a_component_s_share_is_its_own_and_not_the_head_s(number: int, memory_mb: int) -> None:
    place = read_component(BATCH, number, started=1000.0)
    allocation = read_allocation(
        place.environ(STEP), host="n2", host_cpus=8, host_memory_mb=8000, now=place.started,
        time_limit_s=60,
    )  # fmt: skip
    assert (allocation.memory_mb, allocation.cpus) == (memory_mb, 2)
    assert allocation.job_id == str(794 + number)
    assert allocation.end_time == 1060.0
