"""Small files, written whole."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from slurm_provider.agent.files import read_json, write_json, write_text


def test_a_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        write_json(str(tmp_path / "new" / "node.json"), {"a": 1})
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "new" / "node.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = str(tmp_path / "x.json")
    write_json(path, {"name": "ä", "n": [1, 2.5, None]})
    assert read_json(path) == {"name": "ä", "n": [1, 2.5, None]}


def test_a_missing_file_is_none(tmp_path: Path) -> None:
    assert read_json(str(tmp_path / "none.json")) is None


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "x.json")
    write_json(path, {"n": 0, "filler": []})
    done = threading.Event()

    def write() -> None:
        for n in range(100):
            write_json(path, {"n": n, "filler": ["x" * 100] * n})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        value = read_json(path)
        assert value is not None and len(value["filler"]) == value["n"]
        seen.add(value["n"])
    writer.join()
    assert seen


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.txt"
    write_text(str(path), "old")

    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(str(path), "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    value = os.fsdecode(b"\xff/odd")  # as os.environ holds them
    write_text(str(tmp_path / "x.txt"), value)
    assert (tmp_path / "x.txt").read_bytes() == b"\xff/odd"
