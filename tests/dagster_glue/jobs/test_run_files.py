"""The program around the payload, and reading its files by offset; no Ray."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from dagster_glue.jobs import source as source_module
from dagster_glue.jobs.output import DriverOutput
from dagster_glue.jobs.run_folder import RunFolder
from dagster_glue.jobs.source import Drained, FolderSource
from dagster_glue.jobs.tail import FolderMissing, Tail
from slurm_provider.transport import Completed, LocalTransport, TransportError


class FlakyTransport(LocalTransport):
    """Fails half of its commands, and some of them only after half of their output."""

    def __init__(self) -> None:
        self._random = random.Random(7)

    def run(
        self, argv: Sequence[str], *, timeout_s: float, stdin: bytes | None = None
    ) -> Completed:
        if self._random.random() < 0.3:
            raise TransportError("reset", transient=True)
        done = super().run(argv, timeout_s=timeout_s, stdin=stdin)
        if self._random.random() < 0.3:
            half = done.stdout[: len(done.stdout) // 2]
            return Completed(done.argv, done.returncode, half, done.stderr)
        return done


class Listener:
    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.broken: list[bytes] = []

    def feed_line(self, line: bytes) -> None:
        self.lines.append(line)

    def note_broken(self, line: bytes, why: str) -> None:
        self.broken.append(line)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(LocalTransport(), str(tmp_path / "runs"), "job-1")
    made.prepare({"run_id": "r"}, {"FROM_DAGSTER": "1"})
    return made


def start(folder: RunFolder, code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, f"{folder.path}/job_main.py", "--", sys.executable, "-u", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "MESSAGES": f"{folder.path}/messages.jsonl"},
    )


def read_all(folder: RunFolder, transport: LocalTransport) -> tuple[FolderSource, Listener]:
    listener = Listener()
    flaky = RunFolder(transport, os.path.dirname(folder.path), os.path.basename(folder.path))
    source = FolderSource(flaky, listener, DriverOutput())  # type: ignore[arg-type]
    for _ in range(2000):
        try:
            if source.drain(None) is Drained.ALL:
                source.finish()
                return source, listener
        except TransportError:
            pass
    raise AssertionError("it never ends")


def test_every_byte_arrives_once_while_half_of_all_looks_fail(
    folder: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    payload = start(
        folder,
        "import os, sys\n"
        "assert os.environ['FROM_DAGSTER'] == '1'\n"
        "for i in range(500):\n"
        "    sys.stdout.write(f'\\r{i}'); sys.stderr.write('é')\n"
        "    size = 5_000_000 if i == 250 else 100\n"
        "    open(os.environ['MESSAGES'], 'a').write(str(i) + 'x' * size + '\\n')\n"
        "sys.exit(3)\n",
    )
    threading.Thread(target=payload.communicate).start()
    source, listener = read_all(folder, FlakyTransport())
    assert [len(line) for line in listener.lines] == [
        len(str(i)) + (5_000_000 if i == 250 else 100) for i in range(500)
    ]
    assert source.ended is not None and source.ended.exit_code == 3
    printed = capfd.readouterr()
    assert printed.out == "".join(f"\r{i}" for i in range(500))
    assert printed.err == "é" * 500
    assert payload.wait() == 3


def test_a_signal_and_a_message_cut_in_two_are_told(folder: RunFolder) -> None:
    payload = start(
        folder,
        "import os; open(os.environ['MESSAGES'], 'a').write('{half'); os.kill(os.getpid(), 9)",
    )
    assert payload.wait() == 137
    source, listener = read_all(folder, LocalTransport())
    assert source.ended is not None
    assert (source.ended.exit_code, source.ended.signal) == (137, 9)
    assert listener.broken == [b"{half"]


def test_a_program_that_is_missing_ends_with_127(folder: RunFolder) -> None:
    done = subprocess.run(
        [sys.executable, f"{folder.path}/job_main.py", "--", "no-such-program"], check=False
    )
    assert done.returncode == 127
    source, _ = read_all(folder, LocalTransport())
    assert source.ended is not None and source.ended.exit_code == 127


def test_preparing_a_run_twice_keeps_what_its_job_has_written(folder: RunFolder) -> None:
    messages = Path(folder.path, "messages.jsonl")
    messages.write_text("first\n")
    folder.prepare({"run_id": "r"}, {})
    assert messages.read_text() == "first\n"
    assert os.stat(folder.path).st_mode & 0o777 == 0o700


def test_a_missing_folder_is_an_error_and_a_missing_file_is_empty(
    folder: RunFolder, tmp_path: Path
) -> None:
    assert Tail(LocalTransport(), folder.path, ("nothing",)).look() == {"nothing": b""}
    with pytest.raises(TransportError, match="cannot be read"):
        Tail(LocalTransport(), str(tmp_path / "a file system" / "no"), ("x",)).look()
    with pytest.raises(FolderMissing, match="cannot be read"):
        Tail(LocalTransport(), str(tmp_path / "no"), ("x",)).look()


def test_a_look_waits_for_what_is_new_and_no_longer(folder: RunFolder) -> None:
    tail = Tail(LocalTransport(), folder.path, ("messages.jsonl", "stdout.log"))

    def write() -> None:
        Path(folder.path, "stdout.log").write_text("here")

    begin = time.monotonic()
    assert not any(tail.look(wait_s=0.5).values())
    assert time.monotonic() - begin >= 0.5
    threading.Timer(0.3, write).start()
    assert tail.look(wait_s=60) == {"messages.jsonl": b"", "stdout.log": b"here"}
    assert time.monotonic() - begin < 30


def test_only_runs_that_ended_long_ago_are_dropped(folder: RunFolder, tmp_path: Path) -> None:
    month_ago = time.time() - 30 * 86400
    runs = {name: RunFolder(LocalTransport(), str(tmp_path / "runs"), name)
            for name in ("old one", "failed", "old failure", "running", "silent")}  # fmt: skip
    for each in runs.values():
        each.prepare({}, {})
    runs["old one"].finish(succeeded=True)
    os.utime(f"{runs['old one'].path}/done", (month_ago, month_ago))
    for name, when in (("failed", month_ago), ("old failure", 1.0)):
        runs[name].finish(succeeded=False)
        os.utime(f"{runs[name].path}/failed", (when, when))
    for name in os.listdir(runs["silent"].path):
        os.utime(f"{runs['silent'].path}/{name}", (1, 1))
    for name in ("running", "silent"):
        os.utime(runs[name].path, (1, 1))
    folder.finish(succeeded=True)
    assert sorted(os.listdir(tmp_path / "runs")) == ["failed", "job-1", "running"]


def test_nodes_are_asked_for_their_logs_until_the_run_succeeds(tmp_path: Path) -> None:
    cluster = tmp_path / "cluster"
    folder = RunFolder(LocalTransport(), str(tmp_path / "runs"), "job-1", str(cluster))
    folder.prepare({}, {})
    asked = cluster / "log-requests" / "job-1"
    assert asked.read_text() == folder.path
    os.makedirs(f"{folder.ray_logs_path}/a-0")  # of a worker that left meanwhile

    folder.finish(succeeded=False)
    assert asked.exists() and os.path.exists(f"{folder.path}/failed")
    folder.prepare({}, {})  # by a retry
    assert not os.path.exists(f"{folder.path}/failed")
    folder.finish(succeeded=True)
    assert not asked.exists()
    assert not os.path.exists(str(folder.ray_logs_path))


def test_closing_is_seen_in_a_folder(folder: RunFolder) -> None:
    messages = Path(folder.path, "messages.jsonl")
    messages.write_text('{"method": "opened"}\n')
    assert not source_module.was_closed_in_folder(folder)
    with messages.open("a") as file:
        file.write('{"__dagster_pipes_version": "0.1", "method": "closed", "params": {}}\n')
    assert source_module.was_closed_in_folder(folder)


def test_a_full_disk_ends_the_log_and_not_the_payload(folder: RunFolder, tmp_path: Path) -> None:
    os.unlink(f"{folder.path}/run.log")
    os.symlink("/dev/full", f"{folder.path}/run.log")
    payload = start(folder, "print('one'); print('two')")
    out, _ = payload.communicate()
    assert payload.returncode == 0
    assert b"one" in out and b"two" in out and b"is not kept any further" in out
