"""The local runtime is shared by processes and ends with the last of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_glue.clusters import keeper, local
from dagster_glue.clusters.base import ClusterGone
from dagster_glue.clusters.local import LocalCluster, LocalClusterError

# Stands in for `ray start --block`: the real one is what all other tests here run on.
RAY = """
import http.server, os, sys
port = next(int(a.split("=")[1]) for a in sys.argv if a.startswith("--dashboard-port="))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        running = os.path.exists(os.environ["JOB_RUNS"])
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'[{"status": "RUNNING"}]' if running else b"[]")
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

USER = """
import sys
from dagster_glue.clusters import local
local._RAY_START = [sys.executable, "-c", sys.argv[1]]
local._USER_FOLDER = sys.argv[2]
cluster = local.LocalCluster.start(env={"JOB_RUNS": sys.argv[3]}, idle_grace_s=0.5)
print(cluster.open_jobs().address, cluster._home, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def job_runs(tmp_path: Path) -> Path:
    return tmp_path / "job-runs"


@pytest.fixture
def users(tmp_path: Path, job_runs: Path) -> Iterator[list[subprocess.Popen[str]]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", USER, RAY, str(tmp_path / "u"), str(job_runs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(2)
    ]
    yield started
    job_runs.unlink(missing_ok=True)
    for user in started:
        user.kill()
        user.communicate()


def test_two_processes_that_start_at_once_share_a_runtime_that_ends_when_both_are_killed(
    users: list[subprocess.Popen[str]], wait_for: Callable[..., Any], job_runs: Path
) -> None:
    said = {user.stdout.readline() for user in users if user.stdout}
    assert len(said) == 1
    home = said.pop().split()[1]
    state = local._state(home)
    assert state is not None
    assert os.stat(f"{home}/token").st_mode & 0o077 == 0

    users[0].kill()
    users[0].wait()
    job_runs.touch()
    users[1].kill()
    users[1].wait()
    # Long past the grace, the runtime is there for the job's sake.
    left_at = time.monotonic()
    wait_for(lambda: time.monotonic() - left_at > 2.0)
    assert local._state(home) == state

    job_runs.unlink()
    wait_for(lambda: not local._keeper_lives(home))
    for pid in (state["pid"], state["keeper"]):
        wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists())
    with pytest.raises(ClusterGone):
        LocalCluster(home, "/nowhere").open_jobs()


def test_a_runtime_that_starts_for_somebody_who_was_killed_is_joined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local, "_USER_FOLDER", str(tmp_path / "u"))
    monkeypatch.setattr(local, "_launch", pytest.fail)
    monkeypatch.setattr(local, "_hold", lambda home: None)
    asked: list[str] = []

    def state(home: str) -> dict[str, Any] | None:
        asked.append(home)
        return {"address": "http://127.0.0.1:1"} if len(asked) > 3 else None

    monkeypatch.setattr(local, "_keeper_lives", lambda home: True)
    monkeypatch.setattr(local, "_state", state)
    assert LocalCluster.start().open_jobs is not None
    assert len(asked) > 3


def test_ray_s_silence_is_no_word_on_whether_jobs_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers: list[bool | None] = [None, None, True, None, None, None]
    monkeypatch.setattr(keeper, "_has_jobs", lambda spec: answers.pop(0))
    for name, value in {"_USERS_POLL_S": 0.001, "_BUSY_POLL_S": 0.0, "_SILENT_TIMES": 3}.items():
        monkeypatch.setattr(keeper, name, value)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as ray:
        keeper._watch(ray, str(tmp_path), {"idle_grace_s": 0.0}, [])
        ray.kill()
    assert answers == []


def test_a_runtime_that_cannot_start_says_what_ray_said() -> None:
    with pytest.raises(LocalClusterError, match="no-such-option"):
        LocalCluster.start(ray_args=["--no-such-option"])


def test_a_folder_that_others_may_write_to_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setattr(local, "_USER_FOLDER", str(folder))
    with pytest.raises(LocalClusterError, match="remove it"):
        local._user_folder()
