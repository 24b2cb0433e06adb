from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from dagster_glue.environment import EnvironmentFailed, Target
from dagster_glue.environment.platforms import conda_platform, interpreter, wheel_platform
from slurm_provider.transport import Completed, LocalTransport


class Other(LocalTransport):
    """An edge node of another kind."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.asked: list[Sequence[str]] = []

    def run(
        self, argv: Sequence[str], *, timeout_s: float, stdin: bytes | None = None
    ) -> Completed:
        self.asked.append(argv)
        return Completed(tuple(argv), 0, f"{self.machine}\n", "")


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("x86_64", "linux-64"), ("aarch64", "linux-aarch64"), ("arm64", "linux-aarch64"),
     ("ppc64le", "linux-ppc64le")],
)  # fmt: skip
def test_the_edge_node_is_asked_for_its_machine(machine: str, expected: str) -> None:
    edge = Other(machine)
    assert Target().platform(edge) == expected
    assert edge.asked == [["uname", "-m"]]


def test_pack_platform_overrides_the_edge_node() -> None:
    edge = Other("x86_64")
    assert Target(pack_platform="linux-aarch64").platform(edge) == "linux-aarch64"
    assert edge.asked == []


def test_without_auto_detection_this_machine_counts() -> None:
    edge = Other("riscv64")
    expected = conda_platform(platform.machine(), "here")
    assert Target(auto_detect=False).platform(edge) == expected


def test_an_unknown_machine_asks_for_pack_platform() -> None:
    with pytest.raises(EnvironmentFailed, match="riscv64; set pack_platform"):
        Target().platform(Other("riscv64"))


@pytest.mark.parametrize(
    ("glibc", "expected"),
    [((2, 36), "x86_64-manylinux_2_36"), ((2, 30), "x86_64-manylinux_2_28"),
     ((2, 17), "x86_64-manylinux_2_17"), ((2, 99), "x86_64-manylinux_2_40")],
)  # fmt: skip
def test_wheels_are_those_that_run_with_the_clusters_glibc(
    glibc: tuple[int, int], expected: str
) -> None:
    assert wheel_platform("linux-64", glibc) == expected


def test_a_glibc_older_than_any_wheel_is_refused() -> None:
    with pytest.raises(EnvironmentFailed, match=r"glibc 2\.12"):
        wheel_platform("linux-64", (2, 12))


def test_the_interpreter_behind_a_virtual_environment_is_found() -> None:
    found = interpreter(LocalTransport(), sys.executable)
    assert found.version == sys.version_info[:3]
    assert found.path == os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    assert found.glibc >= (2, 17)


def test_a_missing_python_is_named() -> None:
    with pytest.raises(EnvironmentFailed, match=r"no python9\.9 on here"):
        interpreter(LocalTransport(), "python9.9")


def test_a_python_that_does_not_run_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "python3"
    broken.write_text("#!/bin/sh\necho libpython missing >&2\nexit 127\n")
    broken.chmod(0o755)
    with pytest.raises(EnvironmentFailed, match="libpython missing"):
        interpreter(LocalTransport(), str(broken))
