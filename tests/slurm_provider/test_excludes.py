"""`rsync_exclude` and `rsync_filter` leave out of a copy what rsync would."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slurm_provider.cluster import Cluster
from slurm_provider.command_runner import SlurmCommandRunner
from slurm_provider.excludes import Excludes

FILES = (
    ".git/config", ".gitignore", "a.pyc", "data/big.bin", "data/keep/.gitignore", "data/keep/x.log",
    "data/keep/y.txt", "src/.git", "src/a.py", "src/build/out", "src/data/z", "x.log", "y1", "y2",
)  # fmt: skip
IGNORED = "# made by tools\n*.pyc\n\n/data/*.bin\nbuild/\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    (folder / ".gitignore").write_text(IGNORED)
    (folder / "data/keep/.gitignore").write_text("*.log\n")
    return folder


@pytest.fixture
def node(tmp_path: Path) -> SlurmCommandRunner:
    """A head on the edge node, which is this machine, as far as copies to it are concerned."""
    section = {"type": "external", "cluster_dir": str(tmp_path / "cluster")}
    cluster = Cluster(section, "demo")
    folder = Path(cluster.store.paths.node("head-0"))
    folder.mkdir(parents=True)
    (folder / "node.json").write_text(json.dumps({"node_id": "head-0"}))
    Path(cluster.store.paths.shell("head-0")).write_text("")
    return SlurmCommandRunner(cluster, "head-0")


CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({}, set()),
    ({"rsync_exclude": ["**/.git", "**/.git/**"]}, {".git/config", "src/.git"}),
    ({"rsync_exclude": [".git/"]}, {".git/config"}),
    ({"rsync_exclude": ["/data"]}, {"data/big.bin", "data/keep/.gitignore", "data/keep/x.log",
                                    "data/keep/y.txt"}),
    ({"rsync_exclude": ["keep/*.txt", "y[!2]"]}, {"data/keep/y.txt", "y1"}),
    ({"rsync_exclude": "src"}, {"src/.git", "src/a.py", "src/build/out", "src/data/z"}),
    ({"rsync_filter": [".gitignore"]}, {"a.pyc", "data/big.bin", "src/build/out",
                                        "data/keep/x.log"}),
    ({"rsync_filter": [".notthere"]}, set()),
]  # fmt: skip


@pytest.mark.parametrize(("options", "left_out"), CASES)
def test_a_copied_folder_leaves_out_what_the_patterns_name(
    node: SlurmCommandRunner,
    source: Path,
    tmp_path: Path,
    options: dict[str, Any],
    left_out: set[str],
) -> None:
    node.run_rsync_up(f"{source}/", f"{tmp_path}/target/", options)

    copied = {
        str(path.relative_to(tmp_path / "target"))
        for path in (tmp_path / "target").rglob("*")
        if path.is_file()
    }
    assert copied == set(FILES) - left_out


@pytest.mark.skipif(shutil.which("rsync") is None, reason="there is no rsync to compare with")
@pytest.mark.parametrize(("options", "left_out"), CASES[1:5] + CASES[6:7])
def test_rsync_itself_leaves_out_the_same(
    source: Path, tmp_path: Path, options: dict[str, Any], left_out: set[str]
) -> None:
    given = Excludes.of(options)
    words = [f"--exclude={pattern}" for pattern in given.patterns]
    words += [f"--filter=dir-merge,- {name}" for name in given.filters]
    subprocess.run(["rsync", "-a", *words, f"{source}/", f"{tmp_path}/theirs"], check=True)

    theirs = {
        str(path.relative_to(tmp_path / "theirs"))
        for path in (tmp_path / "theirs").rglob("*")
        if path.is_file()
    }
    assert theirs == set(FILES) - left_out


@pytest.mark.parametrize(
    ("pattern", "path", "is_left_out"),
    [
        (r"a\[1\].txt", "sub/a[1].txt", True), (r"a\[1\].txt", "a1.txt", False),
        (r"\*", "*", True), (r"\*", "x", False),
        ("[z-a]", "[z-a]", True), ("[z-a]", "b", False), ("x[!]", "x[!]", True),
        (r"[a\]", r"[a\]", True),
    ],
)  # fmt: skip
def test_odd_brackets_and_backslashes_are_taken_as_they_are(
    tmp_path: Path, pattern: str, path: str, is_left_out: bool
) -> None:
    assert Excludes((pattern,)).below(str(tmp_path))(path) is is_left_out


def test_a_filter_file_may_hold_any_bytes(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_bytes(b"caf\xe9\n*.log\n")
    given = Excludes(filters=(".gitignore",))
    assert given.below(str(tmp_path))("x.log")
    assert given.below(str(tmp_path))("caf\udce9")
