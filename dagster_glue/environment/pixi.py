"""An environment from a pixi project, packed by pixi-pack.

pixi-pack takes packages for any platform from the lock file, so this machine may be another.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Protocol

from dagster_glue.environment.base import EnvironmentFailed, Log
from dagster_glue.environment.cache import FOLDER, ArchiveCache
from dagster_glue.environment.platforms import Target
from dagster_glue.environment.relocate import pack_folder
from slurm_provider.transport import Transport

_FORMAT = "1"
_KEY_DIGITS = 24
_SCRIPTS = ("own_folder.sh", "unpack.sh")  # the second reads the first
_SELF_EXTRACTOR = "environment.sh"  # the name that pixi-pack gives it


class PixiPack(Protocol):
    """What makes a self-extractor of a pixi environment."""

    @property
    def identity(self) -> str:
        """All that decides the result besides the project's files and the platform."""
        ...

    def pack(self, project: str, platform: str, inject: Sequence[str], output: str) -> None:
        """Write the self-extractor for a conda platform, with more packages, to ``output``.

        Raises EnvironmentFailed.
        """
        ...


@dataclass(frozen=True)
class PixiEnvironment:
    """The folder of a pixi project with its ``pixi.lock``."""

    project: str
    packer: PixiPack
    inject: tuple[str, ...] = ()
    """Built packages to add: patterns in the project; of each, the newest file counts."""
    target: Target = field(default_factory=Target)

    def ensure(
        self, transport: Transport, base_dir: str, log: Log, *, force: bool = False
    ) -> dict[str, str]:
        """See :class:`.base.Environment`."""
        project = os.path.abspath(os.path.expanduser(self.project))
        platform = self.target.platform(transport)
        inject = [newest(project, pattern) for pattern in self.inject]
        archive = ArchiveCache(transport, base_dir, log).obtain(
            content_key(project, self.packer.identity, platform, inject),
            "environment.tar",
            lambda path: self._pack(project, platform, inject, path),
            force=force,
        )
        return {"activate": _activation(transport, base_dir, archive)}

    def _pack(self, project: str, platform: str, inject: Sequence[str], archive: str) -> None:
        with tempfile.TemporaryDirectory(prefix="ray-slurm-pixi-") as folder:
            self.packer.pack(project, platform, inject, os.path.join(folder, _SELF_EXTRACTOR))
            programs = os.path.join(folder, "bin")
            os.mkdir(programs)
            for script, name in (("python", "python"), ("unpack", "conda-unpack")):
                place = os.path.join(programs, name)
                with open(place, "wb") as file:
                    file.write(_resource(f"scripts/pixi/{script}"))
                os.chmod(place, 0o755)
            pack_folder(folder, archive)


@dataclass(frozen=True)
class PixiCommand:
    """The real one: a task of the project that calls pixi-pack, or pixi-pack itself.

    A task (``pack-only``) must leave ``environment.sh`` in the project's folder; for
    ``linux-aarch64`` its name gets ``-aarch`` at the end.
    """

    environment: str = "default"
    task: str | None = None

    @property
    def identity(self) -> str:
        return f"task {self.task}" if self.task else f"environment {self.environment}"

    def pack(self, project: str, platform: str, inject: Sequence[str], output: str) -> None:
        """See :class:`PixiPack`."""
        pixi = shutil.which("pixi")
        if pixi is None:
            raise EnvironmentFailed(
                f"packing the pixi project {project} needs pixi on the machine that runs Dagster: "
                "https://pixi.sh"
            )
        if self.task is not None:
            task = self.task + ("-aarch" if platform == "linux-aarch64" else "")
            _run([pixi, "run", "--frozen", task], project)
            left = os.path.join(project, _SELF_EXTRACTOR)
            if not os.path.isfile(left):
                raise EnvironmentFailed(
                    f"pixi's task {task!r} left no {_SELF_EXTRACTOR} in {project}: it must call "
                    "pixi-pack with --create-executable"
                )
            shutil.move(left, output)
            return
        injected = [word for path in inject for word in ("--inject", path)]
        _run(
            [
                pixi, "exec", "pixi-pack", "--environment", self.environment, "--platform",
                platform, "--create-executable", "--output-file", output, *injected, project,
            ],
            project,
        )  # fmt: skip


def content_key(project: str, identity: str, platform: str, inject: Sequence[str]) -> str:
    """The name of all that decides the archive's content. Raises EnvironmentFailed."""
    digest = hashlib.sha256()
    lock = os.path.join(project, "pixi.lock")
    if not os.path.isfile(lock):
        raise EnvironmentFailed(f"there is no {lock}; run `pixi lock` in the project")
    for part in (_FORMAT, identity, platform):
        digest.update(part.encode() + b"\0")
    for path in (lock, *inject):
        with open(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()[:_KEY_DIGITS]


def newest(project: str, pattern: str) -> str:
    """The newest file that a pattern of the project matches. Raises EnvironmentFailed."""
    found = glob.glob(os.path.join(glob.escape(project), os.path.expanduser(pattern)))
    if not found:
        raise EnvironmentFailed(
            f"nothing in {project} matches inject pattern {pattern!r}; build that package first"
        )
    return max(found, key=os.path.getmtime)


def _activation(transport: Transport, base_dir: str, archive: str) -> str:
    """Shell lines: unpack as an `archive` does, then what conda packages want to have set."""
    scripts = files("slurm_provider").joinpath("job_scripts")
    contents = {name: scripts.joinpath(name).read_bytes() for name in _SCRIPTS}
    digest = hashlib.sha256(b"".join(contents.values())).hexdigest()[:8]
    folder = f"{base_dir.rstrip('/')}/{FOLDER}/unpack-{digest}"
    for name, content in contents.items():
        transport.write_file(f"{folder}/{name}", content)
    return (
        f"RAY_SLURM_ARCHIVE={shlex.quote(archive)}\n"
        f'. {shlex.quote(folder)}/unpack.sh && . "$prefix/activate.sh"'
    )


def _resource(path: str) -> bytes:
    return files("dagster_glue.environment").joinpath(path).read_bytes()


def _run(argv: Sequence[str], folder: str) -> None:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentFailed(
            f"`{shlex.join(argv)}` in {folder} ended with exit code {done.returncode}:\n"
            f"{(done.stderr or done.stdout).strip()[-3000:]}"
        )
