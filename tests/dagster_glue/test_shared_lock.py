"""The lock on a shared file system, with processes as its holders."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from dagster_glue.shared_lock import SharedLock
from slurm_provider.errors import ClusterError
from slurm_provider.transport import LocalTransport
from tests.sandbox_fixture import wait_for

_PROCESSES = multiprocessing.get_context("spawn")


def lock(folder: Path, expiry_s: int = 60) -> SharedLock:
    return SharedLock(LocalTransport(), str(folder), "clusters", expiry_s, poll_s=0.02)


def count_up(folder: Path) -> None:
    """Loses counts unless it is alone."""
    counter = folder / "counter"
    for _ in range(5):
        with lock(folder).held():
            before = int(counter.read_text())
            time.sleep(0.02)
            counter.write_text(str(before + 1))


def hold_on(folder: Path, expiry_s: int) -> None:
    with lock(folder, expiry_s).held():
        (folder / "held").touch()
        signal.pause()


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    processes = [_PROCESSES.Process(target=count_up, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert (tmp_path / "counter").read_text() == "15"
    assert not (tmp_path / "clusters.lock").exists()


def test_a_killed_holder_does_not_keep_it_and_a_living_one_does(tmp_path: Path) -> None:
    process = _PROCESSES.Process(target=hold_on, args=(tmp_path, 2))
    process.start()
    try:
        wait_for((tmp_path / "held").exists)
        ended_waiting = time.monotonic() + 4.0  # longer than the lock lasts without its holder

        class StillHeldError(Exception):
            pass

        def check() -> None:
            if time.monotonic() > ended_waiting:
                raise StillHeldError

        with pytest.raises(StillHeldError), lock(tmp_path, 2).held(check):
            pass
        os.kill(process.pid or 0, signal.SIGKILL)
        with lock(tmp_path, 2).held() as is_ours:
            assert is_ours()
    finally:
        process.kill()
        process.join()


def test_who_lost_it_knows(tmp_path: Path) -> None:
    with lock(tmp_path).held() as is_ours:
        assert is_ours()
        (tmp_path / "clusters.lock" / "owner").write_text("another")
        assert not is_ours()
    assert (tmp_path / "clusters.lock").exists()  # the other one's


def test_a_lock_that_nobody_can_make_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = tmp_path / "bin" / "mkdir"
    mkdir.parent.mkdir()
    mkdir.write_text('#!/bin/sh\n[ "$1" = -p ] || { echo "Disk quota exceeded" >&2; exit 1; }\n')
    mkdir.chmod(0o755)
    monkeypatch.setenv("PATH", f"{mkdir.parent}:{os.environ['PATH']}")
    with pytest.raises(ClusterError, match="Disk quota exceeded"), lock(tmp_path).held():
        pass


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match=r"file/clusters\.lock"), lock(tmp_path / "file").held():
        pass
