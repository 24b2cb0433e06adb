"""A conda prefix of this machine, packed by conda-pack."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

from dagster_glue.environment.base import EnvironmentFailed, Log
from dagster_glue.environment.cache import ArchiveCache
from dagster_glue.environment.platforms import Target
from slurm_provider.transport import Transport

_FORMAT = "1"
_KEY_DIGITS = 24


@dataclass(frozen=True)
class CondaEnvironment:
    """A prefix made by conda, mamba or pixi (``.pixi/envs/default``), of the cluster's platform."""

    prefix: str
    target: Target = field(default_factory=Target)

    def ensure(
        self, transport: Transport, base_dir: str, log: Log, *, force: bool = False
    ) -> dict[str, str]:
        """See :class:`.base.Environment`."""
        prefix = os.path.expanduser(self.prefix)
        wanted = self.target.platform(transport)
        key, platform = describe_prefix(prefix)
        if platform is not None and platform != wanted:
            raise EnvironmentFailed(
                f"{prefix} is made for {platform}, the cluster needs {wanted}: conda-pack copies "
                "what is here. Make the prefix on such a machine, or use pixi or a lock file"
            )
        archive = ArchiveCache(transport, base_dir, log).obtain(
            key, "environment.tar.gz", lambda path: _pack(prefix, path), force=force
        )
        return {"archive": archive}


def describe_prefix(prefix: str) -> tuple[str, str | None]:
    """(content key, platform) of a conda prefix; no platform if it holds nothing compiled.

    The key covers conda's packages by their records and pip's by theirs, not every file.
    Raises EnvironmentFailed if it is none.
    """
    records = sorted(glob.glob(os.path.join(glob.escape(prefix), "conda-meta", "*.json")))
    if not records:
        raise EnvironmentFailed(
            f"{prefix} is not a conda prefix: it has no conda-meta/*.json; see `conda info --envs`"
        )
    of_pip = glob.glob(
        os.path.join(glob.escape(prefix), "lib", "python*", "site-packages", "*-info", "RECORD")
    )
    digest = hashlib.sha256(_FORMAT.encode())
    platform = None
    for path in [*records, *sorted(of_pip)]:
        with open(path, "rb") as file:
            content = file.read()
        digest.update(os.path.relpath(path, prefix).encode() + b"\0" + content)
        if path.endswith(".json"):
            subdir = json.loads(content).get("subdir")
            platform = subdir if subdir not in (None, "noarch") else platform
    return digest.hexdigest()[:_KEY_DIGITS], platform


def _pack(prefix: str, archive: str) -> None:
    places = [os.path.dirname(sys.executable), os.path.join(prefix, "bin")]
    search = os.pathsep.join([os.environ.get("PATH", ""), *places])
    program = shutil.which("conda-pack", path=search)
    if program is None:
        raise EnvironmentFailed(
            "packing a conda prefix needs conda-pack on the machine that runs Dagster: "
            "pip install conda-pack"
        )
    done = subprocess.run(
        [program, "--prefix", prefix, "--output", archive, "--compress-level", "1", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EnvironmentFailed(
            f"conda-pack cannot pack {prefix} (exit code {done.returncode}):\n"
            f"{(done.stderr or done.stdout).strip()[-3000:]}"
        )
