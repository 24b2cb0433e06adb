"""An ordinary user of the sandbox, as seen by root who measures: commands, queue, files."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.errors import BenchmarkError
from benchmarks.sdiag import RpcCounts, parse_sdiag
from benchmarks.waiting import wait_for

ROOT = Path(__file__).parents[1]
USER = "user1"
# The first output of a timed command is its own start, so that the sandbox's part of starting
# it is on neither side of a comparison.
_STAMPED = 'echo "$EPOCHREALTIME" > "$0"; exec "$@"'


@dataclass(frozen=True)
class QueuedJob:
    """A line of squeue."""

    job_id: str
    name: str
    state: str


class SandboxUser:
    """``user1`` of a sandbox that is up; raises BenchmarkError where there is none."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise BenchmarkError("the benchmarks need root, as the sandbox does: use sudo")
        done = subprocess.run(
            [sys.executable, "-m", "sandbox", "info", "--json"],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if done.returncode != 0:
            raise BenchmarkError("there is no sandbox: run `python -m sandbox up` first")
        self._info: dict[str, Any] = json.loads(done.stdout)
        self.home = Path(self._info["users"][USER]["home"])
        self.hosts: Mapping[str, str] = self._info["hosts"]
        self.env_prefix = str(self._info["env_prefix"])
        self._slurm_env = {**os.environ, "SLURM_CONF": self._info["slurm_conf"], "LC_ALL": "C"}
        self._slurm_env["SLURM_TIME_FORMAT"] = "%s"

    def edge(self) -> dict[str, Any]:
        """How the user reaches the edge node by SSH from outside."""
        return {
            "host": self._info["edge"]["address"],
            "port": self._info["edge"]["ssh_port"],
            "user": USER,
            "key_path": self._info["users"][USER]["key_path"],
            "known_hosts": self._info["known_hosts"],
        }

    # -- commands --------------------------------------------------------------------------

    def argv(self, *command: str, host: str | None = None) -> list[str]:
        where = [] if host is None else ["--host", host]
        return [sys.executable, "-m", "sandbox", "run", "--user", USER, *where, "--", *command]

    def run(
        self, *command: str, host: str | None = None, timeout_s: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and wait; raises BenchmarkError if it fails."""
        with self.started(*command, host=host) as child:
            try:
                out, _ = child.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                raise BenchmarkError(f"{command[0]}: still runs after {timeout_s:.0f} s") from None
        if check and child.returncode != 0:
            raise BenchmarkError(
                f"{' '.join(command)}: exit code {child.returncode}: {out[-2000:]}"
            )
        return subprocess.CompletedProcess(child.args, child.returncode, out)

    @contextmanager
    def started(
        self, *command: str, host: str | None = None, stdin: int = subprocess.DEVNULL,
        stdout: int | IO[str] = subprocess.PIPE,
    ) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
        """A command that is ended with the block, if it has not ended by itself."""
        child = subprocess.Popen(
            self.argv(*command, host=host), cwd=ROOT, stdin=stdin, stdout=stdout,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield child
        finally:
            _end(child)
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    # -- files -----------------------------------------------------------------------------

    @contextmanager
    def folder(self, parent: Path | None = None) -> Iterator[Path]:
        """A folder of the user's on the shared file system, removed afterwards."""
        path = self.subfolder((parent or self.home) / f"bench-{secrets.token_hex(3)}")
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def subfolder(self, path: Path) -> Path:
        """Make a folder that the user owns."""
        path.mkdir(mode=0o700)
        entry = pwd.getpwnam(USER)
        os.chown(path, entry.pw_uid, entry.pw_gid)
        return path

    def give(self, path: Path, text: str) -> Path:
        """Write a file that the user owns."""
        entry = pwd.getpwnam(USER)
        path.write_text(text)
        path.chmod(0o700)
        os.chown(path, entry.pw_uid, entry.pw_gid)
        return path

    def remove_on_hosts(self, path: str) -> None:
        """Remove a folder of each host's own disk."""
        for host in self.hosts:
            self.run("rm", "-rf", path, host=host, check=False)

    # -- Slurm, asked as root so that the user's own calls can be counted --------------------

    def slurm(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self._slurm_env, capture_output=True, text=True, timeout=60
        )
        if done.returncode != 0:
            raise BenchmarkError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def jobs(self, belongs: Callable[[str], bool]) -> list[QueuedJob]:
        """The user's jobs whose name ``belongs``, completing ones too."""
        text = self.slurm("squeue", "--user", USER, "--noheader", "--format=%A|%T|%j")
        found = [QueuedJob(i, name, state) for i, state, name in map(_fields, text.splitlines())]
        return [job for job in found if belongs(job.name)]

    def cancel(self, belongs: Callable[[str], bool], timeout_s: float = 60) -> None:
        """Cancel such jobs and wait until squeue shows none."""
        jobs = self.jobs(belongs)
        if jobs:
            self.slurm("scancel", *{job.job_id for job in jobs})
            wait_for("jobs cancelled", lambda: not self.jobs(belongs), timeout_s, poll_s=0.1)

    def rpc_counts(self) -> RpcCounts:
        return parse_sdiag(self.slurm("sdiag"))


def stamped(stamp: Path, command: Sequence[str]) -> list[str]:
    """A command that first writes its start (epoch seconds) to the file ``stamp``."""
    return ["bash", "-c", _STAMPED, str(stamp), *command]


def read_stamp(stamp: Path, timeout_s: float = 30) -> float:
    def written() -> str | None:
        return stamp.read_text().strip() if stamp.exists() else None

    return float(wait_for(f"start of the command ({stamp})", written, timeout_s).split()[0])


def _fields(line: str) -> tuple[str, str, str]:
    job_id, state, name = line.split("|", 2)
    return job_id, state, name


def _end(child: subprocess.Popen[str]) -> None:
    """TERM, then KILL to the child's own group."""
    for number in (15, 9):
        if child.poll() is not None:
            return
        os.killpg(child.pid, number)
        deadline = time.monotonic() + 5
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
