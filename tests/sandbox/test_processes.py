from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import SandboxError
from sandbox.processes import (
    ProcessId,
    descendants,
    identify,
    is_running,
    is_stopped,
    kill_and_wait,
    send_signal,
    tail,
    wait_until,
    with_environment,
)
from tests.sandbox_fixture import wait_for


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], env={"TEST_MARK": f"of {os.getpid()}"}) as process:
        yield process
        process.kill()


def known(process: subprocess.Popen[bytes]) -> ProcessId:
    found = identify(process.pid)
    assert found is not None
    return found


def test_a_process_is_known_again(sleeper: subprocess.Popen[bytes]) -> None:
    assert is_running(known(sleeper))
    assert known(sleeper) == known(sleeper)


def test_a_pid_that_now_belongs_to_another_is_never_signalled(
    sleeper: subprocess.Popen[bytes],
) -> None:
    earlier = ProcessId(sleeper.pid, known(sleeper).start_ticks - 1)
    assert not is_running(earlier)
    assert not send_signal(earlier, signal.SIGKILL)
    assert is_running(known(sleeper))


def test_a_dead_process_nobody_has_waited_for_is_not_running(
    sleeper: subprocess.Popen[bytes],
) -> None:
    process = known(sleeper)
    kill_and_wait([process])
    assert not is_running(process)
    assert identify(sleeper.pid) is None
    assert not send_signal(process, signal.SIGTERM)


def test_a_paused_process_is_running_and_stopped(sleeper: subprocess.Popen[bytes]) -> None:
    process = known(sleeper)
    assert send_signal(process, signal.SIGSTOP)
    wait_for(lambda: is_stopped(process))
    assert is_running(process)


def test_a_process_is_found_by_its_environment(sleeper: subprocess.Popen[bytes]) -> None:
    mark = f"of {os.getpid()}"
    wait_for(lambda: with_environment("TEST_MARK", mark) == [known(sleeper)])
    assert with_environment("TEST_MARK", mark + "0") == []


def test_descendants_are_found_over_generations() -> None:
    with subprocess.Popen(["sh", "-c", "sh -c 'sleep 60; true'; true"]) as shell:
        top = known(shell)
        below = wait_for(lambda: found if len(found := descendants(top)) == 2 else None)
        kill_and_wait([top, *below])
    assert not any(is_running(process) for process in below)


def test_waiting_ends_with_the_log_when_the_process_has_died(tmp_path: Path) -> None:
    log = tmp_path / "d.out"
    log.write_text("fatal: no such file\n")
    gone = ProcessId(os.getpid(), 1)
    with pytest.raises(SandboxError, match=r"slurmctld did not come up(.|\n)*no such file"):
        wait_until(lambda: False, "slurmctld", 5, gone, log)


def test_waiting_ends_when_the_time_is_over() -> None:
    with pytest.raises(SandboxError, match="slurmctld is not ready after 0 s"):
        wait_until(lambda: False, "slurmctld", 0)


def test_only_the_end_of_a_log_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "d.out"
    log.write_text("".join(f"line {number}\n" for number in range(50)))
    assert "line 49" in tail(log, lines=2)
    assert "line 47" not in tail(log, lines=2)
