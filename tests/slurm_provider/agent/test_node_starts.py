"""A node's agent as a process, with a program in place of Ray: how it starts it, and with what."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slurm_provider.config import parse_provider
from slurm_provider.fleet.identity import HEAD, WORKER
from slurm_provider.fleet.launch import LaunchRequest, node_spec
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import LocalTransport
from tests.sandbox_fixture import wait_for

HEAD_FILE = {"generation": "g1", "ip": "127.0.0.1", "gcs_address": "127.0.0.1:9", "temp_dir": "/t"}
# Notes its arguments and environment, fails as often as it is told to, then runs like `--block`.
_RAY = """#!{python}
import json, os, pathlib, signal, sys
folder = pathlib.Path({folder!r})
starts = len(list(folder.glob("start-*")))
(folder / f"start-{{starts}}").write_text(json.dumps([sys.argv[1:], dict(os.environ)]))
codes = json.loads((folder / "codes").read_text())
if starts < len(codes):
    if codes[starts] is None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        (folder / "pid").write_text(str(os.getpid()))
        signal.pause()
    sys.exit(codes[starts])
print("Ray runtime started.", flush=True)
signal.pause()
"""


@dataclass
class Start:
    """One start of the program that stands for Ray."""

    arguments: list[str]
    env: dict[str, str]

    @property
    def ports(self) -> set[int]:
        found = re.findall(r"--(?:[a-z-]+-)?port=(\d+)", " ".join(self.arguments))
        return {int(port) for port in found}


class Agents:
    """Agents of one cluster's nodes on this host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.store = ClusterStore(LocalTransport(), str(folder / "cluster"))
        self.store.create("demo")
        self._code = self.store.install_code()
        self.paths = self.store.paths
        self._processes: list[subprocess.Popen[str]] = []
        self._temporary = tempfile.mkdtemp(dir="/tmp")  # short, for Ray's sockets
        ray = folder / "bin" / "ray"
        ray.parent.mkdir()
        ray.write_text(_RAY.format(python=sys.executable, folder=str(folder)))
        ray.chmod(0o755)

    def start(
        self,
        kind: str,
        *,
        codes: list[int | None] | None = None,
        variables: Mapping[str, str] | None = None,
        **provider: Any,
    ) -> subprocess.Popen[str]:
        """Start a node ``l-0``, whose Ray ends with these exit codes before it runs (None: with 1,
        once it is asked to); ``variables`` are of its job."""
        (self._folder / "codes").write_text(json.dumps(codes or []))
        request = LaunchRequest(kind, "cpu", {}, {}, {}, {}, None)
        config = parse_provider(provider)
        spec = node_spec(request, config, self.paths, "l", self._code, {})
        self.store.write_launch("l", spec, ":\n")
        env = {"PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": "7",
               "SLURM_CPUS_ON_NODE": "1", "SLURM_MEM_PER_NODE": "1000",
               "TMPDIR": self._temporary, **(variables or {})}  # fmt: skip
        self._processes.append(
            subprocess.Popen(
                [sys.executable, self._code, "node", self.paths.root, "l"], env=env, text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
        return self._processes[-1]

    def starts(self) -> list[Start]:
        files = sorted(self._folder.glob("start-*"), key=lambda file: int(file.name[6:]))
        return [Start(*json.loads(file.read_text())) for file in files]

    def slow_ray(self) -> int | None:
        """The pid of a Ray that waits to be ended."""
        file = self._folder / "pid"
        text = file.read_text() if file.exists() else ""
        return int(text) if text else None

    def report(self) -> Mapping[str, Any]:
        return self.store.report("l-0") or {}

    def publish_head(self) -> None:
        Path(self.paths.head).write_text(json.dumps(HEAD_FILE))

    def ask_head(self) -> Callable[[], Any]:
        """Hand over a start command as `ray up` does; returns what reads the answer."""
        wait_for(lambda: self.report().get("state") == "ready")
        path = Path(self.paths.requests("l-0")) / "1.json"
        env = {"RAY_enable_autoscaler_v2": "1"}
        request = {"command": "ray start --head", "env": env}
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(request))
        temporary.rename(path)
        answer = path.with_name("1.json.result")
        return lambda: json.loads(answer.read_text()) if answer.exists() else None

    def close(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        shutil.rmtree(self._temporary)


@pytest.fixture
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    found = Agents(tmp_path_factory.mktemp("a"))
    yield found
    found.close()


def test_a_node_whose_token_cannot_be_read_does_not_start_ray(agents: Agents) -> None:
    agents.publish_head()
    output, _ = agents.start(WORKER).communicate(timeout=30)
    assert "Ray is not started without authentication" in output
    assert f"{agents.paths.token} cannot be read" in output and "No such file" in output
    assert agents.report()["state"] == "ended"
    assert agents.starts() == []


def test_an_empty_token_is_none(agents: Agents) -> None:
    Path(agents.paths.token).write_text("\n")
    agents.publish_head()
    output, _ = agents.start(WORKER).communicate(timeout=30)
    assert "(it is empty)" in output
    assert agents.starts() == []


def test_the_configuration_says_whether_ray_authenticates_and_no_file_does(agents: Agents) -> None:
    agents.store.renew_token()
    agents.publish_head()
    agents.start(WORKER, auth="disabled")
    (start,) = wait_for(agents.starts)
    assert start.env["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN_PATH" not in start.env


def test_shells_on_a_node_get_no_variable_whose_name_no_shell_takes(agents: Agents) -> None:
    agents.store.renew_token()
    agents.publish_head()
    agents.start(WORKER, variables={"a.b": "1", "BASH_FUNC_f%%": "() { :; }", "KEPT": "it's"})
    wait_for(lambda: agents.report().get("state") == "joined")
    script = f". {agents.paths.shell('l-0')} && echo \"$KEPT\""
    done = subprocess.run(["bash", "-c", script], env={}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("it's\n", "")


def test_a_worker_starts_ray_again_on_other_ports_when_it_failed_to_start(agents: Agents) -> None:
    agents.store.renew_token()
    agents.publish_head()
    agents.start(WORKER, codes=[1, 1])
    wait_for(lambda: agents.report().get("state") == "joined")
    first, second, third = agents.starts()
    assert third.env["RAY_AUTH_MODE"] == "token"
    assert first.ports and not first.ports & second.ports and not second.ports & third.ports


@pytest.mark.parametrize(("codes", "starts"), [([1, 1, 1], 3), ([2], 1)])
def test_a_worker_gives_up_after_three_starts_and_after_a_wrong_option_at_once(
    agents: Agents, codes: list[int | None], starts: int
) -> None:
    agents.store.renew_token()
    agents.publish_head()
    process = agents.start(WORKER, codes=codes)
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert agents.report()["reason"] == f"`ray start` ended with exit code {codes[-1]}"
    assert len(agents.starts()) == starts


def test_a_worker_that_is_cancelled_while_ray_starts_leaves(agents: Agents) -> None:
    agents.store.renew_token()
    agents.publish_head()
    process = agents.start(WORKER, codes=[None])
    pid = wait_for(agents.slow_ray)
    # As scancel does; stopped meanwhile, so that the agent sees its signal and Ray's end at once.
    process.send_signal(signal.SIGSTOP)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: ") Z " in Path(f"/proc/{pid}/stat").read_text())
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=20)
    assert (process.returncode, agents.report()["reason"]) == (0, "stopped by Slurm")


def test_a_head_starts_ray_again_with_a_new_token_and_answers_once(agents: Agents) -> None:
    agents.store.renew_token()
    token = agents.store.token()
    agents.start(HEAD, codes=[1])
    answer = agents.ask_head()
    assert wait_for(answer)["exit_code"] == 0
    first, second = agents.starts()
    assert not first.ports & second.ports
    assert agents.store.token() not in (None, token)
    head = json.loads(Path(agents.paths.head).read_text())
    assert head["dashboard_port"] in second.ports and head["dashboard_port"] not in first.ports


def test_a_head_that_cannot_start_ray_says_so_after_three_starts(agents: Agents) -> None:
    agents.store.renew_token()
    agents.start(HEAD, codes=[1, 1, 1])
    assert wait_for(agents.ask_head())["exit_code"] == 1
    assert len(agents.starts()) == 3
