"""Slurm's commands as small programs on PATH that answer what a test wants."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from slurm_provider.cli.main import main
from tests.sandbox_fixture import sandbox

__all__ = ["sandbox"]

_PROGRAM = """#!/bin/sh
echo "{name} $*" >> {folder}/calls
[ -f {folder}/{name}.err ] && cat {folder}/{name}.err >&2
[ -f {folder}/{name}.out ] && cat {folder}/{name}.out
exit $(cat {folder}/{name}.rc)
"""
_FIELDS = {
    "JOBID": "7",
    "JOBID_": "7",
    "STATE": "RUNNING",
    "REASON": "None",
    "PARTITION": "compute",
    "NODELIST": "n1",
    "SUBMIT_TIME": "1000",
    "START_TIME": "1000",
    "END_TIME": "4600",
    "TIME_LIMIT": "1:00:00",
    "CPUS": "2",
    "NAME": "x",
}


@dataclass
class FakeSlurm:
    """Canned answers of Slurm's commands, and what they were called with."""

    folder: Path

    def answer(self, name: str, stdout: str = "", stderr: str = "", rc: int = 0) -> None:
        program = self.folder / name
        program.write_text(_PROGRAM.format(name=name, folder=self.folder))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        (self.folder / f"{name}.out").write_text(stdout)
        (self.folder / f"{name}.err").write_text(stderr)
        (self.folder / f"{name}.rc").write_text(str(rc))

    def queue(self, *jobs: Mapping[str, str]) -> None:
        """What squeue lists; keys of ``_FIELDS``, the rest has defaults."""
        lines = [list(_FIELDS), *([{**_FIELDS, **job}[key] for key in _FIELDS] for job in jobs)]
        self.answer("squeue", "".join("\x1f".join(line) + "\x1e\n" for line in lines))

    def partitions(self, *rows: Sequence[str]) -> None:
        """What sinfo lists: name, up, limit, default limit, hosts, state, CPUs, MB, gres,
        features, host list."""
        head = ["PARTITION", "AVAIL", "L", "D", "N", "T", "C", "M", "G", "F", "NODELIST"]
        self.answer("sinfo", "".join("\x1f".join(row) + "\x1e\n" for row in (head, *rows)))

    def site(self) -> None:
        self.answer(
            "scontrol", "ClusterName = here\nSLURM_VERSION = 22.05.8\nMaxArraySize = 1001\n"
        )

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A Slurm with an empty queue and one partition, and a home folder of its own."""
    folder, home = tmp_path / "bin", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    fake = FakeSlurm(folder)
    fake.queue()
    fake.site()
    fake.partitions(
        ("compute*", "up", "1-00:00:00", "1:00:00", "3", "idle", "16", "64000", "(null)", "(null)",
         "n[1-3]"),
    )  # fmt: skip
    fake.answer("sacctmgr", "here|physics|physics||normal,short|normal\n")
    fake.answer("sbatch", stderr="sbatch: Job 5 to start at 1000 using 1 processors on nodes n1")
    fake.answer("scancel")
    return fake


@dataclass
class Cli:
    """``ray-slurm`` as a user calls it."""

    home: Path
    config: dict[str, Any] = field(default_factory=dict)

    def run(self, *arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, list(arguments), input=stdin, prog_name="ray-slurm")

    def write(self, path: str = "c.yaml") -> str:
        Path(path).write_text(yaml.safe_dump(self.config, sort_keys=False))
        return path

    @property
    def directory(self) -> Path:
        """The cluster's directory."""
        return self.home / ".ray-slurm" / str(self.config["cluster_name"])


@pytest.fixture
def cli(slurm: FakeSlurm) -> Cli:
    """A command line with a small cluster YAML that is valid."""
    config = {
        "cluster_name": "demo",
        "max_workers": 4,
        "provider": {
            "type": "external",
            "module": "slurm_provider.SlurmNodeProvider",
            "defaults": {"partition": "compute"},
        },
        "head_node_type": "head",
        "available_node_types": {
            "head": {"node_config": {"cpus-per-task": 1}, "max_workers": 0},
            "cpu": {"node_config": {"cpus-per-task": 2, "mem": "2G"}, "max_workers": 4},
        },
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
    }
    return Cli(Path(os.environ["HOME"]), config)
