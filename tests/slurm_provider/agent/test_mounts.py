"""Putting staged files in place."""

from __future__ import annotations

import os
import shutil
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


@pytest.mark.skipif(os.getuid() != 0, reason="giving a file away needs root")
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_target_that_another_user_planted_is_refused(
    staged: Path, tmp_path: Path, kind: str
) -> None:
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    for folder in (shared, victim):
        folder.mkdir()
    shared.chmod(0o1777)
    target = shared / "code"
    target.symlink_to(victim) if kind == "link" else target.mkdir(mode=0o777)
    os.chown(target, 12345, 12345, follow_symlinks=False)
    with pytest.raises(PermissionError, match="another user has made it"):
        place(str(staged), str(target))
    assert list(victim.iterdir()) == [] and not list(shared.glob("code/*"))
    shared.chmod(0o755)  # a folder of a colleague is fine where not everybody makes them
    if kind == "folder":
        place(str(staged), str(target))


def test_a_planted_file_beside_the_target_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written beside the target but below a folder that nobody else can enter."""
    (tmp_path / "new").write_text("new")
    made: list[tuple[str, int]] = []
    copy = shutil.copy2

    def noted(source: str, target: str, **keys: bool) -> None:
        folder = os.path.dirname(target)
        made.append((folder, os.stat(folder).st_mode & 0o777))
        copy(source, target, **keys)

    monkeypatch.setattr(shutil, "copy2", noted)
    for _ in range(2):
        place(str(tmp_path / "new"), str(tmp_path / "target"))
    assert [mode for _, mode in made] == [0o700, 0o700]
    assert made[0][0] != made[1][0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "target"]


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
