"""The fixture `sandbox`: a running sandbox for tests of any part of the project.

Use it from a conftest.py: `from tests.sandbox_fixture import sandbox`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox import cgroups

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class RunningSandbox:
    """A sandbox that is up. `info` is what `info --json` prints."""

    info: dict[str, Any]
    is_ours: bool
    """Whether this test session booted it, and so may take it down."""

    def run(
        self,
        *argv: str,
        user: str | None = "user1",
        host: str | None = None,
        stdin: str = "",
        timeout_s: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the edge node, or on a host, and wait; fails the test if it fails."""
        return _finished(
            self.run_argv(*argv, user=user, host=host),
            stdin=stdin,
            timeout_s=timeout_s,
            check=check,
        )

    def run_argv(
        self, *argv: str, user: str | None = "user1", host: str | None = None
    ) -> list[str]:
        """The command line (to be started in ROOT) by which the sandbox runs a command."""
        who = ["--user", user] if user else []
        where = ["--host", host] if host else []
        return [*_sandbox("run"), *who, *where, "--", *argv]

    def control(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command of `python -m sandbox`, such as ("kill", "n2")."""
        return _finished(_sandbox(*argv), timeout_s=120, check=check)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[RunningSandbox]:
    """The sandbox that is up, else one booted for this session and taken down after it."""
    if os.geteuid() != 0:
        pytest.skip("the sandbox needs root")
    was_up = _finished(_sandbox("info", "--json"), check=False).returncode == 0
    # Repairs what an earlier test may have left broken.
    _finished(_sandbox("up", *([] if was_up else _tracking())), timeout_s=600)
    try:
        info = json.loads(_finished(_sandbox("info", "--json")).stdout)
        yield RunningSandbox(info, is_ours=not was_up)
    finally:
        if not was_up:
            _finished(_sandbox("down"), timeout_s=120)


def wait_for(condition: Callable[[], Any], timeout_s: float = 20, poll_s: float = 0.1) -> Any:
    """The first true value of `condition`; fails the test when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not true within {timeout_s} s (last: {value!r})"
        time.sleep(poll_s)
    return value


def _tracking() -> list[str]:
    """Processes are tracked as on most sites, if this machine can."""
    if cgroups.version() is None:
        warnings.warn("no cgroups here: the sandbox tracks processes by linuxproc", stacklevel=2)
        return []
    return ["--proctrack", "cgroup"]


def _sandbox(*argv: str) -> list[str]:
    return [sys.executable, "-m", "sandbox", *argv]


def _finished(
    argv: list[str], *, stdin: str = "", timeout_s: float = 60, check: bool = True
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=ROOT,
        check=False,
    )
    if check:
        assert done.returncode == 0, (
            f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done
