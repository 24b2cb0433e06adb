"""Putting staged files in place."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from slurm_provider.agent.mounts import place, place_mounts


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    folder = tmp_path / "staged"
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o750)
    (folder / "sub" / "data").write_text("1")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "linked").symlink_to("sub")
    return folder


def test_a_folder_is_copied_with_modes_links_and_empty_folders(
    staged: Path, tmp_path: Path
) -> None:
    target = tmp_path / "deep" / "target"
    place(str(staged), f"{target}/")
    assert (target / "run.sh").stat().st_mode & 0o777 == 0o750
    assert (target / "sub" / "data").read_text() == "1"
    assert (target / "sub" / "empty").is_dir()
    assert os.readlink(target / "dangling") == "nowhere"
    assert os.readlink(target / "linked") == "sub"


def test_a_second_placement_replaces_files_and_keeps_what_else_is_there(
    staged: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    place(str(staged), str(target))
    (target / "sub" / "mine").write_text("kept")
    (staged / "sub" / "data").write_text("2")
    place(str(staged), str(target))
    assert (target / "sub" / "data").read_text() == "2"
    assert (target / "sub" / "mine").read_text() == "kept"
    assert sorted(p.name for p in target.iterdir()) == sorted(p.name for p in staged.iterdir())


def test_a_single_file_replaces_one_that_is_being_read(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "target").write_text("old")
    with open(tmp_path / "target") as reader:
        place(str(tmp_path / "new"), str(tmp_path / "target"))
        assert reader.read() == "old"
    assert (tmp_path / "target").read_text() == "new"


def test_home_and_variables_are_those_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    place_mounts([[str(tmp_path / "file"), "~/a/b"], [str(tmp_path / "file"), "$SCRATCH/c"]])
    assert (tmp_path / "home" / "a" / "b").read_text() == "x"
    assert (tmp_path / "scratch" / "c").read_text() == "x"


def test_nodes_that_share_the_target_do_not_disturb_each_other(
    staged: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    code = "import sys; from slurm_provider.agent.mounts import place\n" + (
        f"for _ in range(20): place({str(staged)!r}, {str(target)!r})"
    )
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", code])) for _ in range(3)
        ]
        assert [node.wait() for node in nodes] == [0, 0, 0]
    assert sorted(p.name for p in target.iterdir()) == sorted(p.name for p in staged.iterdir())
