"""uv, and wheels that need no index."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from dagster_glue.environment import EnvironmentFailed
from dagster_glue.environment.locked import find_uv
from slurm_provider.config import EnvironmentConfig
from slurm_provider.fleet.launch import activation
from tests.sandbox_fixture import RunningSandbox, sandbox

__all__ = ["RunningSandbox", "sandbox"]

MakeWheel = Callable[..., Path]


@pytest.fixture
def uv(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """uv on PATH; installed into a folder of its own where the environment has none."""
    try:
        find_uv()
    except EnvironmentFailed:
        folder = Path(f"/var/tmp/ray-slurm-test-uv-{os.getuid()}")
        if not (folder / "bin" / "uv").exists():
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), "uv"],
                check=True, timeout=300, capture_output=True,
            )  # fmt: skip
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    yield


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    """Make a wheel of one module ``NAME`` with a program of that name that prints ``says``."""

    def make(
        name: str, version: str = "1.0", says: str = "hello", tag: str = "py3-none-any"
    ) -> Path:
        folder = tmp_path / "wheels"
        folder.mkdir(exist_ok=True)
        info = f"{name}-{version}.dist-info"
        module = f"import sys\ndef main():\n    print({says!r}, sys.prefix, *sys.argv[1:])\n"
        entries = {
            f"{name}.py": module,
            f"{name}-{version}.data/data/share/{name}/note.txt": "data\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
            f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
        }
        entries[f"{info}/RECORD"] = (
            "".join(
                f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in entries.items()
            )
            + f"{info}/RECORD,,\n"
        )
        path = folder / f"{name}-{version}-{tag}.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for inside, text in entries.items():
                wheel.writestr(inside, text)
        return path

    return make


def on_a_node(folder: Path, environment: dict[str, str], *command: str) -> str:
    """Run a command as a job does after activation; ``folder`` is the node's disk."""
    folder.mkdir(exist_ok=True)
    unpack = files("slurm_provider").joinpath("job_scripts/unpack.sh")
    lines = activation(EnvironmentConfig.model_validate(environment), str(unpack))
    done = subprocess.run(
        ["bash", "-c", f'{lines}"$@"', "node", *command],
        env={"PATH": "/usr/bin:/bin", "SLURM_TMPDIR": str(folder), "HOME": str(folder)},
        capture_output=True, text=True, timeout=60, cwd="/", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
