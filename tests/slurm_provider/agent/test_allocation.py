"""What a node makes of a Slurm job's environment."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_provider.agent.allocation import (
    MB,
    Allocation,
    accelerator_type,
    ray_memory,
    read_allocation,
)

NOW = 1_800_000_000.0
HOST_MB = 256_000


def read(environ: dict[str, str], time_limit_s: int | None = None) -> Allocation:
    return read_allocation(
        environ, host="n1", host_cpus=64, host_memory_mb=HOST_MB, now=NOW,
        time_limit_s=time_limit_s,
    )  # fmt: skip


def test_the_jobs_share_is_taken_and_not_the_hosts() -> None:
    found = read(
        {
            "SLURM_JOB_ID": "42",
            "SLURM_CPUS_ON_NODE": "4",
            "SLURM_MEM_PER_NODE": "2048",
            "SLURM_JOB_PARTITION": "gpu",
            "CUDA_VISIBLE_DEVICES": "0,2",
            "SLURM_JOB_END_TIME": "1800003600",
        }
    )
    assert found == Allocation("42", 4, 2048, 2, "n1", "gpu", 1_800_003_600.0)


def test_outside_a_job_the_whole_host_is_the_share() -> None:
    assert read({}) == Allocation("", 64, HOST_MB, 0, "n1", "", None)


@pytest.mark.parametrize(
    ("environ", "memory_mb"),
    [
        ({"SLURM_MEM_PER_NODE": "500"}, 500),
        ({"SLURM_MEM_PER_CPU": "100"}, 400),
        ({"SLURM_MEM_PER_GPU": "1000"}, 2000),
        # Slurm does not manage memory: 4 of the host's 64 CPUs, so a sixteenth of its memory.
        ({"SLURM_MEM_PER_NODE": "0"}, 16_000),
        ({"SLURM_MEM_PER_CPU": "0"}, 16_000),
        ({"SLURM_MEM_PER_GPU": "1000", "CUDA_VISIBLE_DEVICES": ""}, 16_000),
        ({}, 16_000),
    ],
)
def test_memory_is_per_node_or_per_cpu_or_per_gpu_or_a_share_of_the_hosts(
    environ: dict[str, str], memory_mb: int
) -> None:
    job = {"SLURM_CPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert read({**job, **environ}).memory_mb == memory_mb


def test_nodes_that_fill_a_host_do_not_promise_more_memory_than_it_has() -> None:
    share = read({"SLURM_CPUS_ON_NODE": "16"}).memory_mb
    assert 4 * share <= HOST_MB
    # Slurm may count hardware threads that the operating system does not show.
    assert read({"SLURM_CPUS_ON_NODE": "128"}).memory_mb == HOST_MB


@pytest.mark.parametrize(
    ("environ", "gpus"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_GPUS_ON_NODE": "8"}, 2),
        ({"CUDA_VISIBLE_DEVICES": "", "SLURM_GPUS_ON_NODE": "8"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8f6e,MIG-GPU-1/2/0"}, 2),
        ({"ROCR_VISIBLE_DEVICES": "0,1,2"}, 3),
        ({"SLURM_GPUS_ON_NODE": "3"}, 3),
        ({}, 0),
    ],
)
def test_gpus_are_the_devices_a_process_may_use(environ: dict[str, str], gpus: int) -> None:
    assert read(environ).gpus == gpus


def test_before_slurm_23_02_the_end_follows_from_the_limit_asked_for() -> None:
    assert read({}, time_limit_s=600).end_time == NOW + 600
    assert read({"SLURM_JOB_END_TIME": "1800000060"}, time_limit_s=600).end_time == NOW + 60


@settings(deadline=None)
@given(st.integers(512, 4_000_000), st.none() | st.integers(0, 4_000_000))
def test_memory_and_object_store_fit_in_the_grant(granted_mb: int, shm_mb: int | None) -> None:
    memory, store = ray_memory(granted_mb, shm_mb)
    assert memory > 0
    assert memory + store <= granted_mb * MB
    assert store >= 80 * MB  # Ray refuses less than 75 MB


@settings(deadline=None)
@given(st.integers(300, 4_000_000), st.integers(0, 4_000_000))
def test_the_planned_memory_does_not_depend_on_the_host(granted_mb: int, shm_mb: int) -> None:
    assert ray_memory(granted_mb)[0] == ray_memory(granted_mb, shm_mb)[0]


def test_a_small_dev_shm_makes_the_object_store_smaller() -> None:
    assert ray_memory(10_000, shm_free_mb=1000)[1] == 900 * MB


@pytest.mark.parametrize(
    ("gres_type", "ray_name"),
    [
        ("a100", "A100"),
        ("nvidia_h100_80gb", "H100"),
        ("tesla_t4", "T4"),
        ("a100_3g.20gb", "A100"),
        ("v100s", "V100S"),
        ("rtx_2080_ti", "RTX_2080_TI"),
        ("big", "BIG"),
        (None, None),
        ("", None),
    ],
)
def test_a_gpu_type_gets_rays_name(gres_type: str | None, ray_name: str | None) -> None:
    assert accelerator_type(gres_type) == ray_name
