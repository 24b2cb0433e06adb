"""A shared folder without room costs words, but no node."""

from __future__ import annotations

import contextlib
import errno
import json
import sys
import threading
from pathlib import Path

import pytest

from slurm_provider.agent import unfailing
from slurm_provider.agent.files import write_text
from slurm_provider.agent.node import RayRuntime
from slurm_provider.agent.unfailing import Told, UnfailingStream


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is set, nothing can be written."""
    is_full = threading.Event()
    is_full.set()

    def write(path: str, text: str) -> None:
        if is_full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        write_text(path, text)

    monkeypatch.setattr(unfailing, "write_text", write)
    return is_full


def test_what_cannot_be_written_is_written_later_as_it_was_told_last(
    full_disk: threading.Event, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, path = Told(), tmp_path / "node.json"
    told.tell_json(str(path), {"state": "starting"})
    told.tell_json(str(path), {"state": "joined"})
    told.again()
    assert not path.exists()
    assert capsys.readouterr().out.count("No space left on device") == 1

    full_disk.clear()
    told.again()
    assert json.loads(path.read_text()) == {"state": "joined"}
    path.unlink()
    told.again()
    assert not path.exists()


def test_what_is_no_longer_true_is_not_written_later(
    full_disk: threading.Event, tmp_path: Path
) -> None:
    told, path = Told(), tmp_path / "head.json"
    told.tell(str(path), "here")
    told.forget(str(path))
    full_disk.clear()
    told.again()
    assert not path.exists()


def test_a_ray_that_started_is_seen_though_the_log_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.suppress(OSError), open("/dev/full", "w") as log:
        monkeypatch.setattr(sys, "stdout", UnfailingStream(log))
        command = "for i in $(seq 3000); do echo line $i; done; echo Ray runtime started."
        runtime = RayRuntime(["sh", "-c", command], {"PATH": "/usr/bin:/bin"}, str(tmp_path))
        has_started = runtime.started.wait(10)
        monkeypatch.undo()
    assert has_started
