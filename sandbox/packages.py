"""The Debian packages the sandbox is made of, and how to install the missing ones."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from .commands import DAEMON_PATH
from .errors import SandboxError

PACKAGE_OF_PROGRAM = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurmdbd": "slurmdbd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "mariadb": "mariadb-client",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "useradd": "passwd",
    "hostname": "hostname",
}

POLICY = Path("/usr/sbin/policy-rc.d")
_START_NOTHING = "#!/bin/sh\n# Temporary, by ray-slurm-sandbox: start no service.\nexit 101\n"


def missing_packages() -> list[str]:
    """Names of the packages whose programs are not on this machine, sorted."""
    missing = {
        package
        for program, package in PACKAGE_OF_PROGRAM.items()
        if not shutil.which(program, path=DAEMON_PATH)
    }
    try:
        pwd.getpwnam("mysql")
    except KeyError:
        missing.add("mariadb-server")  # its programs may have come without it, this user not
    return sorted(missing)


def install(packages: list[str], say: Callable[[str], None]) -> None:
    """Install packages without starting their services. Raises SandboxError with apt's words."""
    apt = shutil.which("apt-get", path=DAEMON_PATH)
    if not apt:
        raise SandboxError(
            f"Missing on this machine: {', '.join(packages)} (Debian's names), and there is no "
            "apt-get to install them. Install them, then run this again."
        )
    say(f"installing Debian packages: {' '.join(packages)}")
    with no_services_started():
        # apt's lists may be absent (fresh image) or stale (404): refresh them only then.
        command = [apt, "install", "--yes", "--no-remove", "--no-install-recommends", *packages]
        if _apt(command).returncode == 0:
            return
        say("refreshing apt's package lists")
        _apt([apt, "update"])
        finished = _apt(command)
    if finished.returncode != 0:
        words = "\n".join(f"  {line}" for line in finished.stdout.splitlines()[-8:])
        raise SandboxError(f"apt-get could not install {', '.join(packages)}:\n{words}")


@contextlib.contextmanager
def no_services_started(policy: Path = POLICY) -> Iterator[None]:
    """While this lasts, Debian's invoke-rc.d starts nothing; an existing policy is put back."""
    kept = policy.with_name(policy.name + ".kept-by-ray-slurm-sandbox")
    if policy.exists() and not kept.exists():
        policy.rename(kept)
    policy.write_text(_START_NOTHING)
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
        if kept.exists():
            kept.rename(policy)


def _apt(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # apt needs the machine's own settings, such as proxies.
        env={**os.environ, "PATH": DAEMON_PATH, "DEBIAN_FRONTEND": "noninteractive"},
        check=False,
    )
