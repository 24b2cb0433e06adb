"""The agent starts on every node, from the code archive, in whatever environment that has Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import LocalTransport

_IMPORT = "import sys; sys.path.insert(0, sys.argv[1]); import {module}"


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("cluster")
    return ClusterStore(LocalTransport(), str(folder)).install_code()


@pytest.mark.parametrize("name", ["main", "head", "worker", "shim", "mounts", "drain"])
def test_it_needs_the_standard_library_only(code: str, name: str, tmp_path: Path) -> None:
    # -S: no site-packages, so that Ray, pydantic or a YAML library could not be found.
    done = subprocess.run(
        [sys.executable, "-IS", "-c", _IMPORT.format(module=f"slurm_provider.agent.{name}"), code],
        capture_output=True, text=True, timeout=30, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
