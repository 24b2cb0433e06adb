"""Slurm's commands as programs on PATH that answer what the test wants, and a fleet over them."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from slurm_provider.config import parse_provider
from slurm_provider.fleet.edge import EdgeHead
from slurm_provider.fleet.fleet import Fleet
from slurm_provider.fleet.identity import HEAD, WORKER, JobIdentity
from slurm_provider.fleet.launch import LaunchRequest
from slurm_provider.fleet.ledger import Node
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.slurm import SlurmClient
from slurm_provider.transport import LocalTransport

_COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
_PROGRAM = Path(__file__).with_name("program.py")


class SlurmPrograms:
    """A folder for PATH, and the programs' memory."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self._state = folder / "state"
        self.bin.mkdir()
        (self._state / "answers").mkdir(parents=True)
        self.write_jobs([])
        for command in _COMMANDS:
            words = [sys.executable, "-IS", str(_PROGRAM), str(self._state), command]
            path = self.bin / command
            path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
            path.chmod(0o755)

    def answer(
        self,
        command: str,
        stdout: str = "",
        *,
        stderr: str = "",
        rc: int = 0,
        sleep_s: float = 0.0,
        done: bool = False,
        truth: bool = False,
        times: int | None = None,
        after: int = 0,
    ) -> None:
        """What the command says from now on (or so often, and then the truth; or ``after`` so
        many true answers).

        ``done``: it also does what it was asked. ``truth``: it does, and says so, after
        ``sleep_s``.
        """
        wrong = {"rc": rc, "stdout": stdout, "stderr": stderr, "sleep_s": sleep_s,
                 "done": done or truth, "truth": truth}  # fmt: skip
        answers: list[dict[str, Any] | None] = [None] * after
        answers += [wrong] if times is None else [wrong] * times + [None]
        self._answers(command).write_text(json.dumps(answers))

    def tell_the_truth(self, command: str) -> None:
        self._answers(command).unlink(missing_ok=True)

    def remove(self, command: str) -> None:
        (self.bin / command).unlink()

    def calls(self, command: str) -> list[dict[str, Any]]:
        """Each with ``argv`` and ``env``."""
        path = self._state / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call for line in lines if (call := json.loads(line))["argv"][0] == command]

    @property
    def jobs(self) -> list[dict[str, str]]:
        return list(json.loads((self._state / "jobs.json").read_text()))

    def add_job(self, name: str, job_id: str, **values: str) -> None:
        """A job that somebody else submitted."""
        job = {"raw_id": job_id.partition("_")[0], "state": "RUNNING", "reason": "None",
               "partition": "compute", "nodelist": "n1", "submit": "1000", "start": "1000",
               "end": "N/A", "limit": "1:00:00", "cpus": "2"}  # fmt: skip
        self.write_jobs([*self.jobs, {**job, "job_id": job_id, "name": name, **values}])

    def set(self, **values: str) -> None:
        """Change all of the cluster's worker jobs."""
        self.write_jobs(
            [{**job, **values} if f":{WORKER}:" in job["name"] else job for job in self.jobs]
        )

    def _answers(self, command: str) -> Path:
        return self._state / "answers" / f"{command}.json"

    def write_jobs(self, jobs: list[dict[str, str]]) -> None:
        (self._state / "jobs.json").write_text(json.dumps(jobs))


class Clock:
    """Seconds pass when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.on_sleep: list[Any] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.on_sleep:
            self.on_sleep.pop(0)()


class Bench:
    """One cluster's fleet over the programs."""

    def __init__(self, folder: Path, slurm: SlurmPrograms) -> None:
        self.slurm = slurm
        self.clock = Clock()
        transport = LocalTransport()
        self.store = ClusterStore(transport, str(folder / "cluster"))
        self.uuid = self.store.create("demo")
        self.client = SlurmClient(transport, timeout_s=5.0)
        head = JobIdentity("demo", "head", self.uuid, HEAD, "headlaunch", 0)
        slurm.add_job(head.job_name, "7")

    def fleet(self, *, watched: bool = False, timeout_s: float = 5.0) -> Fleet:
        """``watched`` as on the head, where the test ticks; else as in a command."""
        client = SlurmClient(LocalTransport(), timeout_s=timeout_s)
        edge = EdgeHead(self.store.transport, self.store)
        fleet = Fleet(
            client, self.store, edge, parse_provider({}), "demo", self.uuid,
            watched=watched, clock=self.clock, sleep=self.clock.sleep,
        )  # fmt: skip
        if watched:
            fleet.tick()
        return fleet

    def launch(self, fleet: Fleet, count: int = 1) -> list[str]:
        request = LaunchRequest(
            kind=WORKER,
            node_type="cpu",
            options={"partition": "compute", "cpus-per-task": 2},
            resources={"CPU": 2},
            given={},
            labels={},
            gpu_type=None,
        )
        return fleet.launch(request, count, self.store.code_path, {})

    def tick(self, fleet: Fleet, seconds: float = 5.0) -> None:
        self.clock.now += seconds
        fleet.tick()

    @staticmethod
    def workers(fleet: Fleet) -> list[Node]:
        return [node for node in fleet.nodes() if node.kind == WORKER]
