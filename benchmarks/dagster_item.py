"""(g) Dagster assets: cold, warm and a chain, beside dagster-slurm and a bare Ray job."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.dagster_peer import install_peer, lay_out
from benchmarks.errors import BenchmarkError
from benchmarks.report import Findings, Line
from benchmarks.sandbox_user import ROOT, SandboxUser
from benchmarks.waiting import wait_for

_CHAIN = 3
_TIMEOUT_S = 420.0
_PAYLOAD = ROOT / "benchmarks" / "dagster_payload.py"
_EMPTY_TIMEOUT_S = 60.0

Moments = dict[str, float]


@dataclass
class _Side:
    """What was measured of one side, in seconds."""

    steps: dict[str, list[Moments]] = field(default_factory=dict)
    """Per kind of asset (``cold``, ``warm`` …): one dictionary of moments for each."""
    chains: list[float] = field(default_factory=list)
    """From the first step's start to the last one's end."""
    commands: list[float] = field(default_factory=list)
    """The same with Dagster's start, and the end of what it started."""

    def add(self, kind: str, *moments: Moments) -> None:
        self.steps.setdefault(kind, []).extend(moments)

    def seconds(self, kind: str) -> tuple[float, ...]:
        return tuple(moments["step ends"] for moments in self.steps[kind])


def measure(user: SandboxUser, repeats: int) -> Findings:
    """Side after side in turns; between two turns nothing of either runs."""
    python = install_peer()
    ours, peer, bare = _Side(), _Side(), _Side()
    with _bench(user, python) as bench:
        turns = (
            partial(bench.our_asset, ours),
            partial(bench.peer_asset, peer),
            partial(bench.our_session, ours, bare),
            partial(bench.peer_run, peer),
        )
        for number in range(repeats):
            for turn in turns if number % 2 == 0 else reversed(turns):
                turn()
                bench.wait_until_empty()
    return _findings(ours, peer, bare)


def _findings(ours: _Side, peer: _Side, bare: _Side) -> Findings:
    warm, there = ours.seconds("warm"), ours.seconds("warm, no upload")
    return Findings(
        (
            Line("g", "asset on a warm cluster, against Ray's own client through the same tunnel",
                 warm, bare.seconds("through the tunnel"), aim_ratio=1.15),
            Line("g", "  against Ray's own client on the head itself",
                 warm, bare.seconds("on the head")),
            Line("g", "  against dagster-slurm", warm, peer.seconds("warm"), aim_ratio=0.5),
            Line("g", "  with the payload on the cluster already, against Ray's own client",
                 there, bare.seconds("no upload")),
            Line("g", "  the same against dagster-slurm", there, peer.seconds("warm")),
            Line("g", "  the same, first asset of a new process (it connects)",
                 ours.seconds("warm, new process, no upload")),
            Line("g", "asset with a cluster of its own, against dagster-slurm",
                 ours.seconds("cold"), peer.seconds("cold"), aim_ratio=0.6),
            Line("g", "  of a session's or a run's cluster, its first asset",
                 ours.seconds("first"), peer.seconds("first")),
            Line("g", "chain of three on one cluster that is made for it, against dagster-slurm",
                 tuple(ours.chains), tuple(peer.chains)),
            Line("g", "  the whole command, with Dagster's start and end",
                 tuple(ours.commands), tuple(peer.commands)),
        ),
        {f"{name}, {kind}": steps
         for name, side in (("ours", ours), ("dagster-slurm", peer), ("Ray's client", bare))
         for kind, steps in side.steps.items()},
    )  # fmt: skip


class _Bench:
    """One folder of the user's for everything, and a payload that is everybody's."""

    def __init__(
        self, user: SandboxUser, python: Path, folder: Path, peer_folder: Path, scratch: Path
    ) -> None:
        self._user = user
        self._peer_python = python
        self._folder = folder
        self._peer_folder = peer_folder
        self._scratch = scratch
        self._count = 0
        sources = scratch / "payload"
        sources.mkdir()
        self._payload = Path(shutil.copy(_PAYLOAD, sources))
        self._shared_payload = Path(shutil.copy(_PAYLOAD, user.subfolder(folder / "payload")))
        self._shared_payload.chmod(0o644)
        self._peer_environment = lay_out(user, folder, user.env_prefix)

    def our_asset(self, ours: _Side) -> None:
        ours.add("cold", *self._our_chain("slurm", "asset", 1)[0])

    def our_session(self, ours: _Side, bare: _Side) -> None:
        name = f"bench-{secrets.token_hex(3)}"
        try:
            steps, seconds, command = self._our_chain("slurm-session", name, _CHAIN)
            ours.add("first", steps[0])
            ours.add("warm", *steps[1:])
            ours.chains.append(seconds)
            ours.commands.append(command)
            bare.add("through the tunnel", *self._bare(name))
            bare.add("on the head", *self._bare(name, on_head=True))
            bare.add("no upload", *self._bare(name, uploads=False))
            steps, _, _ = self._our_chain("slurm-session", name, _CHAIN, uploads=False)
            ours.add("warm, new process, no upload", steps[0])
            ours.add("warm, no upload", *steps[1:])
        finally:
            self.end()

    def peer_asset(self, peer: _Side) -> None:
        peer.add("cold", *self._peer_chain("asset", 1)[0])

    def peer_run(self, peer: _Side) -> None:
        steps, seconds, command = self._peer_chain("run", _CHAIN)
        peer.add("first", steps[0])
        peer.add("warm", *steps[1:])
        peer.chains.append(seconds)
        peer.commands.append(command)

    def wait_until_empty(self) -> None:
        """Until no job of a turn is left to disturb the next one."""
        wait_for("the end of all jobs", lambda: not self._jobs(), _EMPTY_TIMEOUT_S)

    def end(self) -> None:
        for path in (self._folder / "ours" / "clusters").glob("*"):
            # First the tombstone: a living autoscaler must not launch again.
            self._user.give(path / "closing", "")
        if self._jobs():
            self._user.slurm("scancel", *self._jobs())
            self.wait_until_empty()

    def _jobs(self) -> list[str]:
        """Of either side: whose output lies in our folder."""
        text = self._user.slurm("squeue", "--noheader", "--Format=JobID:20,STDOUT:500")
        folders = (str(self._folder), str(self._peer_folder))
        return [line.split()[0] for line in text.splitlines() if any(f in line for f in folders)]

    # -- the sides ---------------------------------------------------------------------------

    def _our_chain(
        self, mode: str, name: str, assets: int, *, uploads: bool = True
    ) -> tuple[list[Moments], float, float]:
        plan = self._our_plan(mode, name, assets, uploads=uploads)
        return self._chain([sys.executable, "-m", "benchmarks.dagster_ours_process"], plan)

    def _peer_chain(self, scope: str, assets: int) -> tuple[list[Moments], float, float]:
        plan = self._plan(mode=scope, assets=assets, environment=str(self._peer_environment),
                          base=str(self._peer_folder), payload=str(self._payload))  # fmt: skip
        return self._chain([str(self._peer_python), "-m", "benchmarks.dagster_peer_process"], plan)

    def _bare(self, name: str, *, on_head: bool = False, uploads: bool = True) -> list[Moments]:
        (directory,) = (self._folder / "ours" / "clusters").glob(f"{name}-*")
        plan = self._our_plan("slurm-session", name, _CHAIN - 1, uploads=uploads)
        plan["cluster"] = directory.name
        program = ["-m", "benchmarks.dagster_bare_process"]
        if not on_head:
            self._call([sys.executable, *program], plan)
        else:
            head = json.loads((directory / "head.json").read_text())
            token = (directory / "token").read_text().strip()
            plan["head"] = {"address": f"http://127.0.0.1:{head['dashboard_port']}",
                            "headers": {"Authorization": f"Bearer {token}"}}  # fmt: skip
            plan["payload"] = str(self._shared_payload)  # its folder is seen there
            python = f"{self._user.env_prefix}/bin/python"
            command = ("env", f"PYTHONPATH={ROOT}", python, *program)
            self._call(self._user.argv(*command, host=str(head["host"])), plan)
        runs = json.loads(Path(plan["result"]).read_text())
        return [self._moments(plan, number, run) for number, run in enumerate(runs)]

    # -- inside ------------------------------------------------------------------------------

    def _our_plan(self, mode: str, name: str, assets: int, *, uploads: bool) -> dict[str, Any]:
        payload = self._payload if uploads else self._shared_payload
        return self._plan(mode=mode, name=name, assets=assets, environment=self._user.env_prefix,
                          base=str(self._folder / "ours"), payload=str(payload),
                          uploads=uploads)  # fmt: skip

    def _plan(self, **values: Any) -> dict[str, Any]:
        self._count += 1
        moments = self._user.subfolder(self._folder / f"moments-{self._count}")
        return {**values, "edge": self._user.edge(), "moments": str(moments),
                "result": str(moments / "result.json")}  # fmt: skip

    def _chain(
        self, command: Sequence[str], plan: Mapping[str, Any]
    ) -> tuple[list[Moments], float, float]:
        """Moments of each step, and seconds of all steps and of the command."""
        begin = time.time()
        self._call(command, plan)
        took = time.time() - begin
        steps = json.loads(Path(plan["result"]).read_text())["steps"]
        runs = list(steps.values())
        moments = [self._moments(plan, number, run) for number, run in enumerate(runs)]
        return moments, runs[-1]["end"] - runs[0]["start"], took

    def _moments(self, plan: Mapping[str, Any], number: int, run: Mapping[str, Any]) -> Moments:
        """The payload's moments and the step's end, since the step's start."""
        said = json.loads((Path(plan["moments"]) / f"asset_{number}.json").read_text())
        if (said["nodes"], said["tasks"]) != (2, 8):
            raise BenchmarkError(
                f"{said['tasks']} tasks ran on {said['nodes']} nodes instead of 8 on two"
            )
        moments = {name: moment - run["start"] for name, moment in said["moments"].items()}
        if "submitted" in run:
            moments["submitted"] = run["submitted"] - run["start"]
        return {**moments, "step ends": run["end"] - run["start"]}

    def _call(self, command: Sequence[str], plan: Mapping[str, Any]) -> None:
        path = self._user.give(Path(plan["moments"]) / "plan.json", json.dumps(plan))
        log = path.with_suffix(".log")
        with log.open("w") as out:
            done = subprocess.run(
                [*command, str(path)], cwd=ROOT, env=self._environ(), stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, timeout=_TIMEOUT_S,
            )  # fmt: skip
        if done.returncode != 0:
            raise BenchmarkError(f"{command[-1]} failed: {log.read_text()[-3000:]}")

    def _environ(self) -> dict[str, str]:
        """A machine without Slurm, and the peer's SSH connection ended with its process."""
        control = self._scratch / "ssh"
        control.mkdir(mode=0o700, exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
        return {**kept, "DAGSTER_SLURM_SSH_CONTROL_DIR": str(control),
                "DAGSTER_SLURM_SSH_CLOSE_MASTER_ON_EXIT": "1"}  # fmt: skip


@contextlib.contextmanager
def _bench(user: SandboxUser, python: Path) -> Iterator[_Bench]:
    with (
        user.folder() as folder,
        # The peer's jobs use it as TMPDIR, where Ray's sockets want a short path.
        user.folder(Path("/var/tmp")) as peer_folder,
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
    ):
        bench = _Bench(user, python, folder, peer_folder, Path(scratch))
        try:
            yield bench
        finally:
            bench.end()
