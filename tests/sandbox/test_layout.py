from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import SandboxError
from sandbox.layout import DATA_DIR_ENV, Paths, Shape, host_address


def test_hosts_are_numbered_from_one_and_addressed_from_eleven() -> None:
    assert Shape(hosts=2).host_names == ("n1", "n2")
    assert host_address("n1") == "10.77.0.11"
    assert host_address("n64") == "10.77.0.74"


@pytest.mark.parametrize(
    ("size", "option"),
    [
        ({"hosts": 0}, "--hosts 0"),
        ({"hosts": 65}, "--hosts 65"),
        ({"memory_mb": 1}, "--memory-mb 1"),
    ],
)
def test_an_impossible_size_is_refused_by_its_option(size: dict[str, int], option: str) -> None:
    with pytest.raises(SandboxError, match=option):
        Shape(**size)  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", ["/tmp/sb", "/dev/shm/sb"])
def test_a_data_folder_that_hosts_cannot_share_is_refused(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_DIR_ENV, folder)
    with pytest.raises(SandboxError, match="each host has a folder of its own"):
        Paths.from_environment()


def test_a_relative_data_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_DIR_ENV, "here")
    with pytest.raises(SandboxError, match="not an absolute path"):
        Paths.from_environment()


def test_the_data_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA_DIR_ENV, "/srv/sb")
    assert Paths.from_environment().slurm_conf == Path("/srv/sb/etc/slurm.conf")
