"""What only the local transport does."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_provider.transport import LocalTransport, TransportError

ROOT = Path(__file__).parents[3]


def test_a_full_disk_is_told_with_the_file_that_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/f'"):
        LocalTransport().write_file(f"{tmp_path}/f", b"data")
    assert not list(tmp_path.glob("*f*"))


def test_a_signal_shows_as_an_exit_code_like_in_a_shell() -> None:
    assert LocalTransport().run(["sh", "-c", "kill -9 $$"], timeout_s=10).returncode == 137


def test_terminating_shows_as_143() -> None:
    process = LocalTransport().popen(["sleep", "60"])
    process.terminate()
    assert process.wait(10) == 143


def test_a_file_that_is_no_program_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(TransportError, match="cannot be started here: Permission denied"):
        LocalTransport().run([str(tmp_path / "text")], timeout_s=10)


def test_a_child_that_ignores_sigterm_is_killed_after_a_grace(tmp_path: Path) -> None:
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done"
    with pytest.raises(TransportError, match="did not end"):
        LocalTransport().run(["sh", "-c", script], timeout_s=0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_call_keeps_the_locale_and_drops_slurms_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("SBATCH_QOS", "x")
    check = '[ "$LC_ALL" = C.UTF-8 ] && [ -z "$SBATCH_QOS" ] && exit 42'
    assert LocalTransport().call(["sh", "-c", check], tty=True) == 42


def test_an_interrupt_during_call_is_left_to_the_child() -> None:
    program = (
        "import sys; from slurm_provider.transport import LocalTransport\n"
        'child = ["sh", "-c", "trap \'exit 33\' INT; echo ready; while :; do sleep 0.05; done"]\n'
        "sys.exit(LocalTransport().call(child, tty=True))"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"ready\n"
        os.killpg(caller.pid, signal.SIGINT)
        assert caller.wait(10) == 33
    finally:
        if caller.poll() is None:
            os.killpg(caller.pid, signal.SIGKILL)
            caller.wait()


def test_the_local_side_works_without_paramiko() -> None:
    program = (
        "import sys; sys.modules['paramiko'] = None\n"
        "from slurm_provider.transport import LocalTransport, SshSettings, Tunnel\n"
        "assert SshSettings('edge').label == 'edge'\n"
        "print(LocalTransport().run(['echo', 'fine'], timeout_s=5).stdout)\n"
        "from slurm_provider.transport import SshTransport"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=30,
    )
    assert done.stdout == "fine\n\n"
    assert "needs paramiko, which this Python lacks: pip install" in done.stderr
