"""The cache of packed environments, on this machine's own disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dagster_glue.environment.base import EnvironmentFailed
from dagster_glue.environment.cache import KEEP_DAYS, ArchiveCache
from slurm_provider.transport import LocalTransport
from tests.sandbox_fixture import ROOT, wait_for

DAY_S = 86400


class Packer:
    """Writes an archive, and counts."""

    def __init__(self, content: bytes = b"packed") -> None:
        self.content = content
        self.calls = 0

    def __call__(self, path: str) -> None:
        self.calls += 1
        Path(path).write_bytes(self.content)


def cache(base: Path, log: list[str] | None = None, expiry_s: int = 120) -> ArchiveCache:
    words = [] if log is None else log
    return ArchiveCache(LocalTransport(), str(base), words.append, expiry_s, poll_s=0.05)


def leftovers(base: Path) -> list[str]:
    """What is in the cache besides whole entries."""
    names = sorted(path.name for path in (base / "env-cache").iterdir())
    return [name for name in names if name.startswith(".") or name.endswith(".lock")]


def test_an_archive_is_packed_and_uploaded_at_the_first_request(tmp_path: Path) -> None:
    packer = Packer(os.urandom(3_000_000))
    path = cache(tmp_path).obtain("k1", "environment.tar", packer)
    assert path == f"{tmp_path}/env-cache/k1/environment.tar"
    assert Path(path).read_bytes() == packer.content
    assert leftovers(tmp_path) == []


def test_the_second_request_finds_the_archive_untouched(tmp_path: Path) -> None:
    packer = Packer()
    path = Path(cache(tmp_path).obtain("k1", "environment.tar", packer))
    before = path.stat().st_mtime_ns
    assert cache(tmp_path).obtain("k1", "environment.tar", packer) == str(path)
    assert packer.calls == 1
    assert path.stat().st_mtime_ns == before  # hosts tell by it whether to unpack again


def test_another_content_is_another_archive(tmp_path: Path) -> None:
    one = cache(tmp_path).obtain("k1", "environment.tar", Packer(b"one"))
    two = cache(tmp_path).obtain("k2", "environment.tar", Packer(b"two"))
    assert Path(one).read_bytes() == b"one"
    assert Path(two).read_bytes() == b"two"


def test_force_packs_again(tmp_path: Path) -> None:
    cache(tmp_path).obtain("k1", "environment.tar", Packer(b"old"))
    path = cache(tmp_path).obtain("k1", "environment.tar", Packer(b"new"), force=True)
    assert Path(path).read_bytes() == b"new"


def test_nobody_else_may_read_or_change_the_cache(tmp_path: Path) -> None:
    path = Path(cache(tmp_path).obtain("k1", "environment.tar", Packer()))
    for made in (path.parent, path.parent.parent):
        assert made.stat().st_mode & 0o077 == 0


def test_a_cache_that_others_may_change_is_not_used(tmp_path: Path) -> None:
    packer = Packer()
    cache(tmp_path).obtain("k1", "environment.tar", packer)
    (tmp_path / "env-cache").chmod(0o777)
    with pytest.raises(EnvironmentFailed, match=r"env-cache \(mode 777\) may be written by every"):
        cache(tmp_path).obtain("k1", "environment.tar", packer)
    assert packer.calls == 1


def test_a_packer_that_fails_leaves_the_lock_free(tmp_path: Path) -> None:
    def fail(path: str) -> None:
        raise EnvironmentFailed("no such package")

    with pytest.raises(EnvironmentFailed, match="no such package"):
        cache(tmp_path).obtain("k1", "environment.tar", fail)
    assert leftovers(tmp_path) == []
    cache(tmp_path).obtain("k1", "environment.tar", Packer())


def test_of_many_at_once_one_packs_and_the_others_wait(tmp_path: Path) -> None:
    packing = threading.Event()
    calls: list[str] = []

    def pack(path: str) -> None:
        calls.append(path)
        packing.wait(10)
        Path(path).write_bytes(b"packed")

    log: list[str] = []
    found: list[str] = []

    def ask() -> None:
        found.append(cache(tmp_path, log).obtain("k1", "environment.tar", pack))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: sum("Another process" in line for line in log) == 3)
    finally:
        packing.set()
        for thread in threads:
            thread.join(20)
    assert len(calls) == 1
    assert found == [f"{tmp_path}/env-cache/k1/environment.tar"] * 4


UPLOADER = """
import sys, time
from dagster_glue.environment.cache import ArchiveCache
from slurm_provider.transport import LocalTransport

def pack(path):
    open(path, "wb").write(b"of the killed")
    print("packing", flush=True)
    time.sleep(60)

ArchiveCache(LocalTransport(), sys.argv[1], lambda words: None, 2).obtain("k1", "e.tar", pack)
"""


def test_the_lock_of_a_killed_uploader_expires(tmp_path: Path) -> None:
    uploader = subprocess.Popen(
        [sys.executable, "-c", UPLOADER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert uploader.stdout is not None
        assert uploader.stdout.readline() == b"packing\n"
        packer = Packer(b"of the survivor")
        result: list[str] = []
        thread = threading.Thread(
            target=lambda: result.append(cache(tmp_path, expiry_s=2).obtain("k1", "e.tar", packer))
        )
        thread.start()
        owner = tmp_path / "env-cache" / "k1.lock" / "owner"
        taken = owner.stat().st_mtime
        # Past the expiry: a living uploader keeps its lock.
        wait_for(lambda: owner.stat().st_mtime > taken + 3)
        assert packer.calls == 0
        uploader.send_signal(signal.SIGKILL)
        thread.join(15)
    finally:
        uploader.kill()
        uploader.wait(10)
    assert [Path(path).read_bytes() for path in result] == [b"of the survivor"]
    assert leftovers(tmp_path) == []


def test_an_uploader_that_lost_its_lock_publishes_nothing(tmp_path: Path) -> None:
    """It was suspended for so long that another one took over."""

    def overtaken(path: str) -> None:
        Path(path).write_bytes(b"late")
        owner = tmp_path / "env-cache" / "k1.lock" / "owner"
        owner.write_text("somebody else\n")

        def finish() -> None:
            (tmp_path / "env-cache" / "k1").mkdir()
            (tmp_path / "env-cache" / "k1" / "e.tar").write_bytes(b"in time")

        finish()

    path = cache(tmp_path).obtain("k1", "e.tar", overtaken)
    assert Path(path).read_bytes() == b"in time"


def test_environments_that_nobody_asked_for_in_a_month_are_removed(tmp_path: Path) -> None:
    old = Path(cache(tmp_path).obtain("old", "e.tar", Packer())).parent
    in_use = Path(cache(tmp_path).obtain("in-use", "e.tar", Packer())).parent
    long_ago = time.time() - (KEEP_DAYS + 1) * DAY_S
    for entry in (old, in_use):
        os.utime(entry / ".used", (long_ago, long_ago))
    cache(tmp_path).obtain("in-use", "e.tar", Packer())
    log: list[str] = []
    cache(tmp_path, log).obtain("new", "e.tar", Packer())
    assert not old.exists()
    assert in_use.exists()
    assert any("Environment old, unused" in line for line in log)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "env-cache").write_text("a file")
    with pytest.raises(EnvironmentFailed, match=r"environment cache .*/env-cache on here"):
        cache(tmp_path).obtain("k1", "e.tar", Packer())
