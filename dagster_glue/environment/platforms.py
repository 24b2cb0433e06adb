"""For which machine to pack."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib.resources import files

from dagster_glue.environment.base import EnvironmentFailed
from slurm_provider.transport import CommandNotFound, Transport

_TIMEOUT_S = 60.0
_CONDA_MACHINES = {
    "x86_64": "64",
    "amd64": "64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
    "ppc64le": "ppc64le",
}
# The platforms that uv can resolve for, by glibc's minor version (`uv pip install --help`).
_MANYLINUX = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)


@dataclass(frozen=True)
class Target:
    """Whose platform counts.

    ``pack_platform`` (``linux-64``, ``linux-aarch64``) says it. Without it the cluster's edge node
    is asked by `uname -m` if ``auto_detect``, else it is this machine's.
    """

    auto_detect: bool = True
    pack_platform: str | None = None

    def platform(self, transport: Transport) -> str:
        """The platform in conda's words. Raises EnvironmentFailed, TransportError."""
        if self.pack_platform is not None:
            return self.pack_platform
        if not self.auto_detect:
            return conda_platform(platform.machine(), "this machine")
        done = transport.run(["uname", "-m"], timeout_s=_TIMEOUT_S)
        return conda_platform(done.stdout.strip(), transport.label)


@dataclass(frozen=True)
class Interpreter:
    """A Python on the cluster."""

    path: str
    """Of the executable itself, even if a virtual environment was asked."""
    version: tuple[int, int, int]
    glibc: tuple[int, int]

    @property
    def minor(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"


def conda_platform(machine: str, where: str) -> str:
    """``linux-64`` from ``x86_64``. Raises EnvironmentFailed for a machine it does not know."""
    known = _CONDA_MACHINES.get(machine.lower())
    if known is None:
        raise EnvironmentFailed(
            f"{where} is a {machine or 'machine of unknown kind'}; set pack_platform to the conda "
            "name of its platform"
        )
    return f"linux-{known}"


def wheel_platform(conda: str, glibc: tuple[int, int]) -> str:
    """The newest platform uv knows whose wheels run there. Raises EnvironmentFailed."""
    machine = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}.get(conda)
    if machine is None:
        raise EnvironmentFailed(
            f"uv cannot install wheels for {conda}; pack a conda prefix or a pixi environment"
        )
    usable = [minor for minor in _MANYLINUX if (2, minor) <= glibc]
    if not usable:
        raise EnvironmentFailed(
            f"glibc {glibc[0]}.{glibc[1]} on the cluster is older than any wheel's (2.17); pack a "
            "conda prefix or a pixi environment"
        )
    return f"{machine}-manylinux_2_{usable[-1]}"


def interpreter(transport: Transport, python: str) -> Interpreter:
    """What ``python`` on the other side is. Raises EnvironmentFailed, TransportError."""
    advice = "name a Python >= 3.10 that every host has at the same path"
    try:
        done = transport.run([python, "-"], stdin=_probe(), timeout_s=_TIMEOUT_S)
    except CommandNotFound:
        raise EnvironmentFailed(f"there is no {python} on {transport.label}; {advice}") from None
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise EnvironmentFailed(
            f"{python} on {transport.label} does not run (exit code {done.returncode}: "
            f"{done.stderr.strip()[-300:]}); {advice}"
        ) from None
    if found["glibc"] is None:
        raise EnvironmentFailed(
            f"{python} on {transport.label} is not linked to glibc, so ordinary wheels do not run "
            f"there; {advice}"
        )
    major, minor, micro = found["version"]
    return Interpreter(found["path"], (major, minor, micro), tuple(found["glibc"]))


def _probe() -> bytes:
    return files("dagster_glue.environment").joinpath("scripts/interpreter.py").read_bytes()
