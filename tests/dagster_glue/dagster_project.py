"""The project of examples/dagster_project, driven by Dagster's own command as a user does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "dagster_project"
MODULE = "ray_slurm_demo"


class DagsterProject:
    """A copy of the example with a DAGSTER_HOME and a HOME of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.dagster_home = folder / "dagster-home"
        self.home = folder / "home"
        shutil.copytree(EXAMPLE, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.dagster_home.mkdir()
        (self.dagster_home / "dagster.yaml").touch()
        self.home.mkdir()

    def dg(self, *argv: str, timeout_s: float = 60, **variables: str) -> str:
        """Run `dg` in the project, and return what it printed; fails the test if it fails."""
        command = Path(sys.executable).with_name("dg")
        keep = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        mine = {"DAGSTER_HOME": str(self.dagster_home), "HOME": str(self.home)}
        path = f"{command.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            [str(command), *argv],
            env={**keep, **mine, "PATH": path, "COLUMNS": "200", **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"dg {' '.join(argv)} ended with {done.returncode}:\n{said}"
        return said

    def metadata(self, asset: str) -> Mapping[str, Any]:
        """Of its latest materialization."""
        with dg.DagsterInstance.from_config(str(self.dagster_home)) as instance:
            event = instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None and event.asset_materialization is not None, asset
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}
