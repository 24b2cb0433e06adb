"""Start processes, know them again later, end exactly those.

A process is known by its pid and its start time, so a pid the kernel gave to someone else in the
meantime is never signalled.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import SandboxError

POLL_S = 0.02


@dataclass(frozen=True)
class ProcessId:
    """One process for ever: `start_ticks` is field 22 of /proc/PID/stat, clock ticks since boot."""

    pid: int
    start_ticks: int


def identify(pid: int) -> ProcessId | None:
    """Who has this pid now; None if nobody, or only a zombie."""
    fields = _stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return ProcessId(pid, int(fields[19]))


def is_running(process: ProcessId) -> bool:
    return identify(process.pid) == process


def is_stopped(process: ProcessId) -> bool:
    """Whether it was paused by SIGSTOP."""
    fields = _stat_fields(process.pid)
    return is_running(process) and fields is not None and fields[0] == "T"


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Signal exactly this process; False if it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # The handle pins whoever has the pid now; only then is the comparison final.
        if not is_running(process):
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def kill_and_wait(processes: Iterable[ProcessId], timeout_s: float = 10.0) -> None:
    """SIGKILL them and wait until they are gone. Raises SandboxError if one stays."""
    doomed = list(processes)
    for process in doomed:
        send_signal(process, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    while left := [process for process in doomed if is_running(process)]:
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in left)
            raise SandboxError(
                f"Processes {pids} survive SIGKILL. In a container this happens when its process 1 "
                "does not reap orphans: start it with an init (docker run --init)."
            )
        time.sleep(POLL_S)


def children(pid: int) -> list[ProcessId]:
    """The direct children of a process."""
    return [
        process
        for other in all_pids()
        if (fields := _stat_fields(other)) and int(fields[1]) == pid
        if (process := identify(other))
    ]


def descendants(root: ProcessId) -> list[ProcessId]:
    """Every process below `root`, nearest first."""
    found: list[ProcessId] = []
    level = children(root.pid) if is_running(root) else []
    while level:
        found += level
        level = [below for process in level for below in children(process.pid)]
    return found


def of_uids(uids: set[int]) -> list[ProcessId]:
    """Every process of this machine that runs as one of these users."""
    return [process for pid in all_pids() if _real_uid(pid) in uids and (process := identify(pid))]


def with_environment(name: str, value: str) -> list[ProcessId]:
    """Every process that was started with this environment variable."""
    entry = f"{name}={value}".encode()
    found = []
    for pid in all_pids():
        try:
            entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if entry in entries and (process := identify(pid)):
            found.append(process)
    return found


def program(process: ProcessId) -> str:
    """The name of the program a process runs (its `comm`); empty if it is gone."""
    try:
        return Path(f"/proc/{process.pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


_started: list[subprocess.Popen[bytes]] = []  # kept, else Popen complains that its child lives on


def start_daemon(
    argv: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    in_child: Callable[[], None] | None = None,
) -> ProcessId:
    """Start a process in a session of its own that survives this one; output goes to `log`."""
    with log.open("ab") as output:
        popen = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd="/",
            start_new_session=True,
            preexec_fn=in_child,
        )
    _started.append(popen)
    process = identify(popen.pid)
    if process is None:
        raise SandboxError(f"{argv[0]} ended at once.{tail(log)}")
    return process


def wait_until(
    condition: Callable[[], bool],
    what: str,
    timeout_s: float,
    process: ProcessId | None = None,
    log: Path | None = None,
    poll_s: float = POLL_S,
) -> None:
    """Poll until `condition` holds. Raises SandboxError with the log's end if `process` dies first
    or the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if process is not None and not is_running(process):
            raise SandboxError(f"{what} did not come up: its process ended.{tail(log)}")
        if time.monotonic() > deadline:
            raise SandboxError(f"{what} is not ready after {timeout_s:.0f} s.{tail(log)}")
        time.sleep(poll_s)


def tail(log: Path | None, lines: int = 15) -> str:
    """The last lines of a log as the end of an error message."""
    if log is None or not log.exists():
        return ""
    last = log.read_text(errors="replace").splitlines()[-lines:]
    return f"\nEnd of {log}:\n" + "\n".join(f"  {line}" for line in last)


def _real_uid(pid: int) -> int | None:
    # Not the owner of /proc/PID: that is root for a process that changed its user.
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(status.partition("\nUid:")[2].split()[0])


def _stat_fields(pid: int) -> list[str] | None:
    """/proc/PID/stat from its third field (the state) on; the second may contain anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()
