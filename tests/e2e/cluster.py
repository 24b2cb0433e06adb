"""One cluster of a test: its YAML, Ray's commands on it, and what there is of it in Slurm and on
the hosts."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from slurm_provider.requirements import OLDEST_RAY, version_tuple
from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for

UP_S = 90
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_RESULT = "RESULT "
# The head of the oldest Ray alone takes 1 GB, and 0.6 GB with 2.60.
_HEAD_MEM = "1500M" if version_tuple(metadata.version("ray")) == OLDEST_RAY else "1G"
Config = dict[str, Any]


def node_type(*, cpus: int = 1, mem: str = "1G", max_workers: int = 0, **keys: Any) -> Config:
    """A small node type; other keys as in the YAML, ``node_config`` is merged."""
    node_config = {"cpus-per-task": cpus, "mem": mem, **keys.pop("node_config", {})}
    return {"node_config": node_config, "resources": {}, "max_workers": max_workers, **keys}


def config(types: Mapping[str, Config] | None = None, **provider: Any) -> Config:
    """A complete YAML but for the name: a head without tasks, workers ``cpu`` or those given."""
    head = node_type(mem=_HEAD_MEM, resources={"CPU": 0})
    if provider.get("head_placement") == "edge":
        head["node_config"] = {}
    workers = types if types is not None else {"cpu": node_type(cpus=2, max_workers=4)}
    return {
        "max_workers": 8,
        "provider": {
            "type": "external",
            "module": "slurm_provider.SlurmNodeProvider",
            "defaults": {"partition": "compute", "time": "00:20:00"},
            **provider,
        },
        "head_node_type": "head",
        "available_node_types": {"head": head, **workers},
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
    }


def two_hosts(sandbox: RunningSandbox) -> tuple[str, str]:
    """Two hosts for nodes that are pinned: not the first ones, which Slurm fills with other tests'
    nodes, nor the last ones, which lose power."""
    hosts = sorted(sandbox.info["hosts"])
    return hosts[len(hosts) // 2 - 1], hosts[len(hosts) // 2]


@dataclass(frozen=True)
class Done:
    """A command that ended; ``output`` is both streams without colours."""

    code: int
    output: str


class Cluster:
    """Commands run as ``shell`` (None: root) on the edge node; jobs and files are ``user``'s."""

    def __init__(
        self,
        sandbox: RunningSandbox,
        purpose: str,
        content: Config,
        *,
        user: str = "user1",
        shell: str | None = "",
    ) -> None:
        self.sandbox = sandbox
        self.name = f"e2e-{purpose}-{secrets.token_hex(2)}"
        self.user = user
        self.shell = user if shell == "" else shell
        home = Path(sandbox.info["users"][user]["home"])
        self.dir = home / ".ray-slurm" / self.name
        self.folder = self._own_folder(home)
        self.yaml = self.folder / "cluster.yaml"
        self.content = {"cluster_name": self.name, **content}
        self.write()
        self._nodes: set[str] = set()

    # -- Ray's commands ----------------------------------------------------------------------

    def write(self) -> None:
        """Write ``content`` to the YAML."""
        self.yaml.write_text(yaml.safe_dump(self.content, sort_keys=False))
        self.yaml.chmod(0o644)

    def ray(self, command: str, *arguments: str, timeout_s: float = 60, check: bool = True) -> Done:
        """``ray COMMAND cluster.yaml ARGUMENTS``; fails the test when it fails, if ``check``."""
        return self.run(*self.ray_argv(command, *arguments), timeout_s=timeout_s, check=check)

    def ray_argv(self, command: str, *arguments: str) -> list[str]:
        return ["ray", *command.split(), str(self.yaml), *arguments]

    def run(self, *argv: str, timeout_s: float = 60, check: bool = True) -> Done:
        """Any command in this cluster's folder on the edge node."""
        self._note_nodes()
        with self.background(list(argv)) as process:
            output = _ANSI.sub("", process.communicate(timeout=timeout_s)[0])
        self._note_nodes()
        if check:
            assert process.returncode == 0, f"{shlex.join(argv)}: {process.returncode}\n{output}"
        return Done(process.returncode, output)

    def argv(self, *argv: str) -> list[str]:
        """The same as a command line for Popen with ``cwd=ROOT``."""
        there = ["sh", "-c", 'cd "$0" && exec "$@"', str(self.folder), *argv]
        if self.shell is None:  # root has no Ray on PATH, and here no Slurm either
            path = f"{self.sandbox.info['env_prefix']}/bin:/usr/bin:/bin"
            there = ["env", "-u", "SLURM_CONF", f"PATH={path}", *there]
        return self.sandbox.run_argv(*there, user=self.shell)

    def up(self, *arguments: str, timeout_s: float = UP_S, check: bool = True) -> Done:
        return self.ray("up -y", *arguments, timeout_s=timeout_s, check=check)

    def down(self, *, check: bool = True) -> Done:
        return self.ray("down -y", timeout_s=90, check=check)

    def exec(self, command: str, *, timeout_s: float = 60, check: bool = True) -> Done:
        return self.ray("exec", command, timeout_s=timeout_s, check=check)

    def ask(self, code: str, *, timeout_s: float = 90) -> Any:
        """Run Python on the head, connected to Ray; the value it leaves in ``result``."""
        done = self.exec(f"python -c {shlex.quote(_program(code))}", timeout_s=timeout_s)
        lines = [line for line in done.output.splitlines() if line.startswith(_RESULT)]
        assert lines, done.output
        return json.loads(lines[-1].removeprefix(_RESULT))

    @contextlib.contextmanager
    def asking(self, code: str) -> Iterator[subprocess.Popen[str]]:
        """The same in the background, for as long as the block lasts."""
        argv = self.ray_argv("exec", f"python -c {shlex.quote(_program(code))}")
        with self.background(argv) as process:
            yield process

    @contextlib.contextmanager
    def background(self, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
        """A command on the edge node for as long as the block lasts; both streams in stdout."""
        process = subprocess.Popen(
            self.argv(*argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            # The whole session: srun, which Ray's command started, would live on without it.
            for signum in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(process.pid, signum)
                    process.communicate(timeout=10)
            process.wait(timeout=10)

    # -- what is known of it -----------------------------------------------------------------

    def uuid(self) -> str | None:
        identity = self.json("cluster.json")
        return None if identity is None else str(identity["uuid"])

    def jobs(self, kind: str = "") -> dict[str, str]:
        """State by job id of this cluster's jobs, of one kind (head, worker) or node type."""
        done = self.sandbox.run("squeue", "-h", "-r", "-o", "%i|%T|%j", user=self.user)
        rows = [line.split("|") for line in done.stdout.splitlines()]
        mine = [row for row in rows if f":{self.name}:" in row[2]]
        return {row[0]: row[1] for row in mine if not kind or f":{kind}:" in row[2]}

    def job_of(self, node_id: str) -> str:
        return str(self.json(f"nodes/{node_id}/node.json")["job_id"])

    def json(self, path: str) -> Any:
        """A file of the cluster's directory, None while there is none."""
        try:
            return json.loads((self.dir / path).read_text())
        except FileNotFoundError:
            return None

    def head(self) -> Any:
        """Where the head is, as its agent published it."""
        return self.json("head.json")

    def token(self) -> str:
        return (self.dir / "token").read_text().strip()

    def reports(self) -> list[Any]:
        """The agents' reports of all nodes there ever were."""
        found = [self.json(f"nodes/{path.parent.name}/node.json")
                 for path in self.dir.glob("nodes/*/node.json")]  # fmt: skip
        return [report for report in found if report is not None]

    def workers(self, state: str = "joined") -> list[Any]:
        """Reports of the workers in a state whose jobs live."""
        head = (self.head() or {}).get("node_id")
        live = {name for name, status in self.jobs("worker").items() if status == "RUNNING"}
        return [
            report
            for report in self.reports()
            if report["node_id"] != head
            and report.get("state") == state
            and (report["job_id"] in self._raw_ids(live))
        ]

    def wait_for_workers(self, count: int, timeout_s: float = 60) -> list[Any]:
        """Wait until exactly this many workers have joined."""
        found: list[Any] = wait_for(
            lambda: len(w := self.workers()) == count and (w or [None]), timeout_s, poll_s=0.3
        )
        return found

    def agent_log(self, node_id: str) -> str:
        return (self.dir / "logs" / f"{node_id}.log").read_text(errors="replace")

    def monitor_log(self) -> str:
        return self.exec("cat /tmp/ray/session_latest/logs/monitor*").output

    # -- the end -----------------------------------------------------------------------------

    def remove(self) -> None:
        """End the cluster however it is; fails the test if anything of it is left."""
        try:
            if self.dir.exists():
                done = self.down(check=False)
                assert done.code == 0, done.output
            self.assert_nothing_is_left()
        finally:
            if left := self.jobs():
                self.sandbox.run("scancel", *left, user=self.user, check=False)
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self.dir, ignore_errors=True)

    def assert_nothing_is_left(self) -> None:
        """No job, no process, no temporary folder, no directory."""
        assert self.jobs() == {}
        assert self.processes() == []
        assert self.temp_dirs() == []
        assert not self.dir.exists()

    def processes(self) -> list[str]:
        """Command lines of its processes on every host (they all are this machine's)."""
        mark = f"{self.dir}/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                # An empty command line is a zombie's: its parent, on another host, is at it.
                if command and (mark in command or mark in (entry / "environ").read_bytes()):
                    found.append(command.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def pid_of(self, program: str) -> int:
        """The one process of this program in the cluster."""
        mark = f"{self.dir}/".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if (
                    os.path.basename(words[0]) == program.encode()
                    and mark in (entry / "environ").read_bytes()
                ):
                    found.append(int(entry.name))
        (pid,) = found
        return pid

    def temp_dirs(self) -> list[str]:
        """Temporary folders of its nodes on any host."""
        base = f"/tmp/rs-{pwd.getpwnam(self.user).pw_uid}"
        found = []
        for host in [None, *self.sandbox.info["hosts"]]:
            done = self.sandbox.run("ls", base, user=None, host=host, check=False)
            found += [f"{host}:{name}" for name in done.stdout.split() if name in self._nodes]
        return found

    # -- inside ------------------------------------------------------------------------------

    def _own_folder(self, home: Path) -> Path:
        folder = home / self.name
        folder.mkdir()
        shutil.chown(folder, self.user, self.user)
        return folder

    def _note_nodes(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._nodes |= set(os.listdir(self.dir / "nodes"))

    def _raw_ids(self, names: set[str]) -> set[str]:
        """Jobs' own ids (an array task has one, too), as the agents know them."""
        done = self.sandbox.run("squeue", "-h", "-r", "-o", "%i|%A", user=self.user)
        pairs = [line.split("|") for line in done.stdout.splitlines()]
        return {raw for name, raw in pairs if name in names}


def _program(code: str) -> str:
    return (
        "import json, os, sys, time, ray\n"
        "ray.init(log_to_driver=False, logging_level='ERROR')\n"
        f"{textwrap.dedent(code).strip()}\n"
        f"print({_RESULT!r} + json.dumps(result))\n"
    )
