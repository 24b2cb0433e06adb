"""Finding and ending processes; real ones.

The agent is a process of its own here, because a subreaper adopts orphans of the whole tree below
it, which would be those of the test run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from slurm_provider.agent.processes import descendants, find_descendant, is_alive

# Makes itself a subreaper, starts a shell line, and ends all below it when told to.
AGENT = """
import os, subprocess, sys
from slurm_provider.agent.processes import become_subreaper, end_descendants
become_subreaper()
child = subprocess.Popen(["bash", "-c", sys.argv[1]])
print("up", flush=True)
spared = frozenset(map(int, sys.stdin.readline().split()))
end_descendants(os.getpid(), grace_s=float(sys.argv[2]), spared=spared)
print("ended", flush=True)
sys.stdin.readline()
"""

DAEMON = """
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open("/proc/self/comm", "w").write("my daemon)")
time.sleep(600)
"""


class Agent:
    def __init__(self, line: str, grace_s: float = 5) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", AGENT, line, str(grace_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self._process.pid
        self.below: list[int] = []
        self._expect("up")

    def wait_for(self, count: int) -> list[int]:
        def enough() -> bool:
            self.below = descendants(self.pid)
            return len(self.below) == count

        wait_until(enough)
        return self.below

    def end_all(self, *, but: int | None = None) -> None:
        self._tell("" if but is None else str(but))
        self._expect("ended")

    def close(self) -> None:
        for pid in [*descendants(self.pid), *self.below]:
            if is_alive(pid) and pid in descendants(self.pid):
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()

    def _tell(self, words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n")
        self._process.stdin.flush()

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == word


@pytest.fixture
def agent() -> Iterator[Callable[..., Agent]]:
    started: list[Agent] = []

    def start(line: str, grace_s: float = 5) -> Agent:
        started.append(Agent(line, grace_s))
        return started[-1]

    yield start
    for one in started:
        one.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def test_a_double_forked_daemon_stays_a_descendant_and_is_ended(
    agent: Callable[..., Agent],
) -> None:
    started = agent(f"exec {sys.executable} -c '{DAEMON}'")
    wait_until(lambda: find_descendant(started.pid, "my daemon)") is not None)
    daemon = find_descendant(started.pid, "my daemon)")
    assert daemon is not None and os.getsid(daemon) != os.getsid(started.pid)
    started.end_all()
    assert not is_alive(daemon)
    assert descendants(started.pid) == []


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(
    agent: Callable[..., Agent],
) -> None:
    started = agent("trap '' TERM; sleep 600 & sleep 600; true", grace_s=0.2)
    below = started.wait_for(3)
    begin = time.monotonic()
    started.end_all()
    assert time.monotonic() - begin < 5
    assert not any(is_alive(pid) for pid in below)


def test_a_spared_process_lives_on_with_all_below_it(agent: Callable[..., Agent]) -> None:
    started = agent("sleep 600 & (sleep 600; true)")
    below = started.wait_for(4)
    inner = next(pid for pid in below[1:] if descendants(pid))
    kept = {inner, *descendants(inner)}
    started.end_all(but=inner)
    assert [pid for pid in below if is_alive(pid)] == [pid for pid in below if pid in kept]
    assert all(is_alive(pid) for pid in kept)


def test_a_spared_process_that_has_ended_is_left_to_who_waits_for_it() -> None:
    code = """
import os, subprocess
from slurm_provider.agent.processes import end_descendants, is_alive
spared = subprocess.Popen(["sh", "-c", "exit 3"])
other = subprocess.Popen(["sleep", "600"])
while is_alive(spared.pid): pass
end_descendants(os.getpid(), grace_s=5, spared=frozenset({spared.pid}))
print(spared.wait(), os.path.exists(f"/proc/{other.pid}"))
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert done.stdout == "3 False\n"


def test_a_process_gets_time_to_end_by_itself(
    agent: Callable[..., Agent], tmp_path: os.PathLike[str]
) -> None:
    mark = os.path.join(tmp_path, "tidied")
    ready = os.path.join(tmp_path, "ready")
    started = agent(f"trap 'touch {mark}; exit' TERM; touch {ready}; while :; do sleep 0.05; done")
    wait_until(lambda: os.path.exists(ready))
    begin = time.monotonic()
    started.end_all()
    assert os.path.exists(mark)
    assert time.monotonic() - begin < 4  # not the whole grace of 5 s


def test_processes_that_are_not_below_the_agent_are_left_alone(
    agent: Callable[..., Agent],
) -> None:
    other = subprocess.Popen(["sleep", "600"])
    try:
        started = agent("sleep 600 & wait")
        assert other.pid not in started.wait_for(2)
        started.end_all()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_parents_are_listed_before_their_children(agent: Callable[..., Agent]) -> None:
    started = agent("(sleep 600 & wait) & wait")
    outer, inner, sleep = started.wait_for(3)
    assert [os.path.basename(os.readlink(f"/proc/{pid}/exe")) for pid in (outer, inner, sleep)] == [
        "bash",
        "bash",
        "sleep",
    ]


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    wait_until(lambda: not is_alive(child.pid))
    assert child.returncode is None  # nobody has waited for it: it is still in the table
    assert os.path.exists(f"/proc/{child.pid}")
    child.wait()


def test_a_pid_that_nobody_has_is_not_alive() -> None:
    assert not is_alive(2**22 + 1)


def test_a_stranger_with_a_name_that_is_no_text_does_not_disturb() -> None:
    code = r"open('/proc/self/comm', 'wb').write(b'\xff) R 1'); print(flush=True); input()"
    stranger = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        assert stranger.pid in descendants(os.getpid())
        assert find_descendant(os.getpid(), "no such name") is None
    finally:
        stranger.kill()
        stranger.communicate()
