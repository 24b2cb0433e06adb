from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.slurm_provider.fake_slurm.programs import Bench, SlurmPrograms


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmPrograms:
    programs = SlurmPrograms(tmp_path)
    # Real Slurm commands of this machine must not be found in place of a missing one.
    others = [
        folder
        for folder in os.environ["PATH"].split(":")
        if not os.path.exists(os.path.join(folder, "sbatch"))
    ]
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "env", "find", "cat", "flock", "mkdir", "timeout", "rm", "rmdir",
                 "stat", "id", "head", "readlink", "getent", "cut"):  # fmt: skip
        (tools / tool).symlink_to(f"/usr/bin/{tool}")
    monkeypatch.setenv("PATH", ":".join([str(programs.bin), str(tools), *others]))
    return programs


@pytest.fixture
def bench(tmp_path: Path, slurm: SlurmPrograms) -> Bench:
    return Bench(tmp_path, slurm)
