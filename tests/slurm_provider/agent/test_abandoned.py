"""Folders of killed nodes: removed by a later one, and never while they may be in use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slurm_provider.agent import abandoned
from slurm_provider.agent.abandoned import remove_abandoned, remove_if_abandoned

_AGENT = """
import sys, time
from slurm_provider.agent.abandoned import claim
claim(sys.argv[1])
print("claimed", flush=True)
time.sleep(60)
"""


@contextmanager
def agent(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A node's agent at work; killed at the end."""
    (folder / "session" / "logs").mkdir(parents=True)
    argv = [sys.executable, "-c", _AGENT, str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "claimed\n"
        try:
            yield process
        finally:
            process.kill()


def killed(folder: Path) -> Path:
    with agent(folder):
        pass
    return folder


def test_the_folder_of_a_killed_agent_is_removed(tmp_path: Path) -> None:
    folder = killed(tmp_path / "node")
    assert remove_if_abandoned(str(folder))
    assert not folder.exists()


def test_the_folder_of_a_living_agent_stays(tmp_path: Path) -> None:
    with agent(tmp_path / "node"):
        with pytest.raises(BlockingIOError):
            remove_if_abandoned(str(tmp_path / "node"))
        assert (tmp_path / "node" / "session" / "logs").is_dir()


@pytest.mark.parametrize("inside", ["cwd", "file"])
def test_a_folder_that_a_process_is_still_at_stays(tmp_path: Path, inside: str) -> None:
    folder = killed(tmp_path / "node")
    cwd = folder / "session" if inside == "cwd" else tmp_path
    log = folder / "session" / "logs" / "raylet.out" if inside == "file" else tmp_path / "log"
    with log.open("w") as out, subprocess.Popen(["sleep", "60"], cwd=cwd, stdout=out) as ray:
        out.close()
        try:
            assert not remove_if_abandoned(str(folder))
        finally:
            ray.kill()
    assert remove_if_abandoned(str(folder))


def test_a_folder_of_another_host_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = killed(tmp_path / "node")
    monkeypatch.setattr(abandoned.socket, "gethostname", lambda: "elsewhere")  # type: ignore[attr-defined]
    assert not remove_if_abandoned(str(folder)) and folder.exists()


def test_a_folder_that_nobody_claimed_stays(tmp_path: Path) -> None:
    (tmp_path / "node" / "session").mkdir(parents=True)
    with pytest.raises(FileNotFoundError):
        remove_if_abandoned(str(tmp_path / "node"))
    assert (tmp_path / "node" / "session").is_dir()


def test_all_that_is_left_in_a_folder_is_looked_at(tmp_path: Path) -> None:
    first, second = killed(tmp_path / "a"), killed(tmp_path / "b")
    (tmp_path / "unclaimed").mkdir()
    (tmp_path / "link").symlink_to(first)
    abandoned._remove_all(str(tmp_path))
    assert not first.exists() and not second.exists() and (tmp_path / "unclaimed").is_dir()


def test_what_is_left_beside_a_folder_of_another_name_is_looked_at(tmp_path: Path) -> None:
    """An earlier node had to use another name than this one."""
    own, other, strangers = tmp_path / f"rs-{os.getuid()}", tmp_path / "rs.abcde", tmp_path / "rs.x"
    left = [killed(parent / "node") for parent in (own, other, strangers)]
    abandoned._remove_all(str(own))
    assert [folder.exists() for folder in left] == [False, False, True]
    assert own.is_dir() and not other.exists()


def test_a_folder_in_use_stays_also_below_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abandoned.threading.Thread, "start", abandoned.threading.Thread.run)  # type: ignore[attr-defined]
    used, left = killed(tmp_path / "scratch" / "used"), killed(tmp_path / "scratch" / "left")
    (tmp_path / "link").symlink_to(tmp_path / "scratch")
    with subprocess.Popen(["sleep", "60"], cwd=used / "session") as ray:
        try:
            remove_abandoned(str(tmp_path / "link"))
        finally:
            ray.kill()
    assert (used / "session").is_dir() and not left.exists()
