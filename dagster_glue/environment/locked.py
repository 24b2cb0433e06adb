"""An environment from a lock file of uv or pip, packed here for the cluster.

Packed is a virtual environment: wheels chosen and installed by uv for the cluster's platform, on
a Python that the cluster's hosts have. So nothing is downloaded or compiled over there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field

from dagster_glue.environment.base import EnvironmentFailed, Log
from dagster_glue.environment.cache import ArchiveCache
from dagster_glue.environment.platforms import Interpreter, Target, interpreter, wheel_platform
from dagster_glue.environment.relocate import make_relocatable, pack_folder
from dagster_glue.environment.requirement_files import LockedFiles, read_locked
from slurm_provider.transport import Transport

_FORMAT = "1"  # to be raised when the same lock file gives another archive
_KEY_DIGITS = 24


@dataclass(frozen=True)
class LockedEnvironment:
    """A ``uv.lock``, ``pylock.toml`` (or ``pylock.NAME.toml``), or requirements (`uv pip compile`,
    `pip freeze`).

    Packages must have wheels for the cluster's platform. Needs uv on this machine.
    """

    lock_file: str
    python: str = "python3"
    """The cluster's Python to build on, looked up on PATH there; at the same path on every host."""
    target: Target = field(default_factory=Target)

    def ensure(
        self, transport: Transport, base_dir: str, log: Log, *, force: bool = False
    ) -> dict[str, str]:
        """See :class:`.base.Environment`."""
        locked = read_locked(self._path)
        python = interpreter(transport, self.python)
        platform = wheel_platform(self.target.platform(transport), python.glibc)
        if locked.unpinned:
            log(
                f"{self.lock_file} does not pin {', '.join(locked.unpinned[:5])}: these stay at "
                "the versions of the day it was packed"
            )
        archive = ArchiveCache(transport, base_dir, log).obtain(
            content_key(locked, platform, python),
            "environment.tar.gz",
            lambda path: self._pack(path, platform, python),
            force=force,
        )
        return {"archive": archive}

    @property
    def _path(self) -> str:
        return os.path.expanduser(self.lock_file)

    def _pack(self, archive: str, platform: str, python: Interpreter) -> None:
        uv = find_uv()
        requirements = os.path.abspath(self._path)
        folder = os.path.dirname(requirements)  # uv's settings, such as its index, are there
        with tempfile.TemporaryDirectory(prefix="ray-slurm-env-") as scratch:
            if os.path.basename(requirements) == "uv.lock":
                requirements = os.path.join(scratch, "requirements.txt")
                _run([
                    uv, "export", "--frozen", "--quiet", "--no-dev", "--no-emit-workspace",
                    "--output-file", requirements,
                ], folder)  # fmt: skip
            prefix = os.path.join(scratch, "env")
            os.makedirs(os.path.join(prefix, "lib"))
            compiled = ["--compile-bytecode"] if sys.version_info[:2] == python.version[:2] else []
            _run([
                uv, "pip", "install", "--quiet", "--prefix", prefix, "--python", sys.executable,
                "--python-version", python.minor, "--python-platform", platform,
                "--only-binary", ":all:", *compiled, "--requirement", requirements,
            ], folder)  # fmt: skip
            make_relocatable(prefix, python)
            pack_folder(prefix, archive)


def content_key(locked: LockedFiles, platform: str, python: Interpreter) -> str:
    """The name of all that decides the archive's content (pure)."""
    digest = hashlib.sha256()
    parts = [_FORMAT, platform, python.path, python.minor]
    for part in [*(part.encode() for part in parts), *(c for _, c in locked.contents)]:
        digest.update(b"%d:" % len(part) + part)
    return digest.hexdigest()[:_KEY_DIGITS]


def find_uv() -> str:
    """The path of uv. Raises EnvironmentFailed if there is none."""
    beside = os.path.join(os.path.dirname(sys.executable), "uv")
    found = shutil.which("uv") or (beside if os.access(beside, os.X_OK) else None)
    if found is None:
        raise EnvironmentFailed(
            "packing a lock file needs uv on the machine that runs Dagster: pip install uv"
        )
    return found


def _run(argv: Sequence[str], folder: str) -> None:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentFailed(
            f"uv cannot install the lock file for the cluster (exit code {done.returncode}):\n"
            f"{done.stderr.strip()[-3000:]}"
        )
