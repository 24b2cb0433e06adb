from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.layout import Paths, Shape
from sandbox.slurm_conf import cgroup_conf, gres_conf, slurm_conf, slurmdbd_conf

PATHS = Paths(Path("/srv/sb"))


def lines(shape: Shape) -> list[str]:
    return slurm_conf(shape, PATHS).splitlines()


def test_every_host_has_its_own_name_address_and_size() -> None:
    nodes = [line for line in lines(Shape(hosts=2, cpus=8, memory_mb=1234)) if "NodeName" in line]
    assert [line.split()[:3] for line in nodes] == [
        ["NodeName=n1", "NodeAddr=10.77.0.11", "CPUs=8"],
        ["NodeName=n2", "NodeAddr=10.77.0.12", "CPUs=8"],
    ]
    assert all("CoresPerSocket=8" in line and "RealMemory=1234" in line for line in nodes)


def test_gpus_are_typed_and_have_device_files() -> None:
    shape = Shape(hosts=3, gpus=4)
    assert "Gres=gpu:a100:4" in slurm_conf(shape, PATHS)
    assert gres_conf(shape, PATHS) == (
        "NodeName=n[1-3] Name=gpu Type=a100 File=/srv/sb/dev/gpu[0-3]\n"
    )


def test_a_single_gpu_is_one_file_and_not_a_range() -> None:
    assert gres_conf(Shape(gpus=1), PATHS).endswith("File=/srv/sb/dev/gpu0\n")


def test_without_gpus_slurm_hears_nothing_of_gpus() -> None:
    shape = Shape(gpus=0)
    assert not [line for line in lines(shape) if "gres" in line.lower()]
    assert gres_conf(shape, PATHS) == ""


@pytest.mark.parametrize(
    ("proctrack", "tracking", "task_plugin"),
    [
        ("linuxproc", "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none"),
        ("cgroup", "ProctrackType=proctrack/cgroup", "TaskPlugin=task/cgroup"),
    ],
)
def test_proctrack_decides_how_processes_are_found(
    proctrack: str, tracking: str, task_plugin: str
) -> None:
    text = lines(Shape(proctrack=proctrack))  # type: ignore[arg-type]
    assert tracking in text
    assert task_plugin in text


def test_partitions_cover_what_tests_need() -> None:
    partitions = {
        line.split()[0].partition("=")[2]: line
        for line in lines(Shape())
        if line.startswith("PartitionName=")
    }
    assert set(partitions) == {"DEFAULT", "compute", "gpu", "long", "debug", "down", "scavenge"}
    assert "Default=YES" in partitions["compute"]
    assert "MaxTime=UNLIMITED" in partitions["long"]
    assert "State=DOWN" in partitions["down"]
    assert "PreemptMode=CANCEL" in partitions["scavenge"]


def test_all_daemons_use_the_sandboxs_own_munge_socket() -> None:
    assert "AuthInfo=socket=/srv/sb/munge/socket" in lines(Shape())
    assert "AccountingStoragePass=/srv/sb/munge/socket" in lines(Shape())
    assert "AuthInfo=socket=/srv/sb/munge/socket" in slurmdbd_conf(PATHS).splitlines()


def test_cgroup_v1_needs_no_option_that_newer_versions_dropped() -> None:
    text = cgroup_conf("v1", limits_memory=True)
    assert "CgroupPlugin=cgroup/v1\n" in text
    assert "ConstrainRAMSpace=yes" in text
    assert "CgroupAutomount" not in text  # 24.11: an error line in every step's log


def test_cgroup_v2_works_without_systemd() -> None:
    text = cgroup_conf("v2", limits_memory=False)
    assert "CgroupPlugin=cgroup/v2\nIgnoreSystemd=yes\n" in text
    assert "ConstrainRAMSpace=no" in text


def test_cpus_are_never_constrained_because_hosts_may_have_more_than_the_machine() -> None:
    assert "ConstrainCores=no" in cgroup_conf("v1", limits_memory=True)
