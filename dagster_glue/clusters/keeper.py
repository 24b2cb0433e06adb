"""The program that keeps one local Ray runtime: starts it, ends it when nobody uses it any more.

Started by path from :mod:`.local`, so that it imports little but the standard library. Processes
that use the runtime hold a shared lock on the file ``users``; the kernel drops it when they die,
however they die. The keeper holds ``keeper`` exclusively for as long as it lives.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from types import FrameType
from typing import IO, Any

START_TIMEOUT_S = 120.0
_POLL_S = 0.1
_USERS_POLL_S = 0.5
_STOP_S = 10.0
_BUSY_POLL_S = 3.0  # between questions to Ray whether jobs still run, once nobody uses it
_SILENT_TIMES = 20  # without an answer to that, before it is taken for a no
_CLAIM_S = 2.0  # a look whether a keeper lives is in the way for a moment
_PR_SET_PDEATHSIG = 1


def main(directory: str) -> int:
    with open(os.path.join(directory, "keeper"), "w") as own, _terminated() as stop:
        if not _claimed(own):
            return 0  # another one was faster
        path = os.path.join(directory, "spec.json")
        with open(path) as file:
            spec = json.load(file)
        os.unlink(path)  # it holds the user's environment
        return _keep(directory, spec, stop)


def _claimed(own: IO[str]) -> bool:
    deadline = time.monotonic() + _CLAIM_S
    while True:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)


def _keep(directory: str, spec: dict[str, Any], stop: list[int]) -> int:
    state = os.path.join(directory, "state.json")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(state)
    with open(os.path.join(directory, "ray.log"), "wb") as log:
        ray = subprocess.Popen(
            spec["argv"],
            env=spec["env"],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        if not _wait_up(ray, spec, stop):
            return 1
        temporary = f"{state}.new"
        with open(temporary, "w") as file:
            json.dump({"address": spec["address"], "pid": ray.pid, "keeper": os.getpid()}, file)
        os.replace(temporary, state)
        _watch(ray, directory, spec, stop)
        return 0
    finally:
        for path in (state, spec["token_path"]):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        _end(ray)
        shutil.rmtree(spec["temp_dir"], ignore_errors=True)


def _wait_up(ray: subprocess.Popen[bytes], spec: dict[str, Any], stop: list[int]) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while ray.poll() is None and not stop and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            # Once it lists jobs, its agent and the GCS work too.
            _ask(spec, "/api/jobs/")
            return True
        time.sleep(_POLL_S)
    return False


def _watch(
    ray: subprocess.Popen[bytes], directory: str, spec: dict[str, Any], stop: list[int]
) -> None:
    """Return when Ray has to go; with the users' lock held if nobody uses it."""
    users = open(os.path.join(directory, "users"), "a")  # held until this process ends
    unused_since: float | None = None
    silences = 0
    while ray.poll() is None and not stop:
        time.sleep(_USERS_POLL_S)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            unused_since = None
            continue
        now = time.monotonic()
        unused_since = now if unused_since is None else unused_since
        if now - unused_since >= spec["idle_grace_s"]:
            has_jobs = _has_jobs(spec)
            silences = silences + 1 if has_jobs is None else 0
            if has_jobs is False or silences >= _SILENT_TIMES:
                return
            unused_since = now - spec["idle_grace_s"] + _BUSY_POLL_S
        fcntl.flock(users, fcntl.LOCK_UN)


def _has_jobs(spec: dict[str, Any]) -> bool | None:
    """A job whose Dagster process was killed goes on; the retried step will ask for it. None: Ray
    did not answer, perhaps because the job keeps this machine busy."""
    try:
        jobs = _ask(spec, "/api/jobs/")
    except (OSError, ValueError):
        return None
    return any(job.get("status") in ("PENDING", "RUNNING") for job in jobs)


def _ask(spec: dict[str, Any], path: str) -> Any:
    from slurm_provider.loopback_http import opener

    with open(spec["token_path"]) as file:
        token = file.read().strip()
    request = urllib.request.Request(
        spec["address"] + path, headers={"Authorization": f"Bearer {token}"}
    )
    with opener().open(request, timeout=5.0) as answer:
        return json.load(answer)


def _end(ray: subprocess.Popen[bytes]) -> None:
    """Only what is ours: the group of `ray start`, and what it started."""
    if ray.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            ray.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            ray.wait(_STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(ray.pid, signal.SIGKILL)
    ray.wait()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def _terminated() -> Iterator[list[int]]:
    seen: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        seen.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, note)
    yield seen


if __name__ == "__main__":
    sys.path.append(sys.argv[2])  # where slurm_provider is
    sys.exit(main(sys.argv[1]))
