"""The peer, dagster-slurm, as its users install it, and the environment it wants on the cluster."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import ray

from benchmarks.errors import BenchmarkError
from benchmarks.sandbox_user import ROOT, SandboxUser

VERSION = "1.22.0"
_INSTALL_TIMEOUT_S = 1200


def install_peer() -> Path:
    """The Python of an environment with the peer, beside our versions of Dagster and Ray.

    The first time it is made, which takes minutes. Raises BenchmarkError.
    """
    try:
        dagster = metadata.version("dagster")
    except metadata.PackageNotFoundError:
        raise BenchmarkError("Dagster is not installed here: pip install '.[dagster]'") from None
    wanted = (f"dagster-slurm=={VERSION}", f"dagster=={dagster}", f"dagster-pipes=={dagster}",
              f"ray[default]=={ray.__version__}")  # fmt: skip
    done = subprocess.run(
        [ROOT / "sandbox" / "environment.sh", "peer", *wanted],
        cwd=ROOT, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise BenchmarkError(
            f"the peer cannot be installed from a package index: {done.stderr[-2000:]}"
        )
    return Path(done.stdout.strip()) / "bin" / "python"


def lay_out(user: SandboxUser, folder: Path, prefix: str) -> Path:
    """The environment that both sides use on the cluster, as the peer's pre_deployed_env_path."""
    path = user.subfolder(folder / "peer-environment")
    (path / "env").symlink_to(prefix)
    user.give(path / "activate.sh", f"export PATH={prefix}/bin:$PATH\n")
    return path
