"""What a sandbox looks like: its sizes, its addresses, and where its files lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import SandboxError

MARK = "ray-slurm-sandbox"
"""Written on everything that outlives a process (users, /etc/hosts lines, the bridge)."""

EDGE_NAME = "edge"
EDGE_ADDRESS = "10.77.0.1"
NETWORK_PREFIX_BITS = 24
FIRST_HOST_OCTET = 11
BRIDGE = "rsbr0"

# Away from Slurm's own 6817-6819: a Slurm on the machine itself stays undisturbed.
SLURMCTLD_PORT = 7817
SLURMDBD_PORT = 7819
SSH_PORT = 2222

USERS = ("user1", "user2")
PASSWORD_USER = "user1"
ACCOUNT = "research"
CLUSTER_NAME = "sandbox"
DATABASE = "slurm_acct_db"
GPU_TYPE = "a100"
MAX_HOSTS = 64

DATA_DIR_ENV = "RAY_SLURM_SANDBOX_DIR"
DEFAULT_DATA_DIR = Path("/var/lib/ray-slurm-sandbox")

Proctrack = Literal["linuxproc", "cgroup"]


@dataclass(frozen=True)
class Shape:
    """Size and kind of the sandbox's Slurm; every host is alike."""

    hosts: int = 3
    cpus: int = 4
    memory_mb: int = 6000
    gpus: int = 2
    proctrack: Proctrack = "linuxproc"

    def __post_init__(self) -> None:
        """Raise SandboxError for a size no sandbox can have."""
        for name, value, low, high in (
            ("--hosts", self.hosts, 1, MAX_HOSTS),
            ("--cpus", self.cpus, 1, 256),
            ("--memory-mb", self.memory_mb, 100, 10_000_000),
            ("--gpus", self.gpus, 0, 16),
        ):
            if not low <= value <= high:
                raise SandboxError(f"{name} {value} is not possible: take {low} to {high}.")

    @property
    def host_names(self) -> tuple[str, ...]:
        return tuple(f"n{number}" for number in range(1, self.hosts + 1))


def host_address(host: str) -> str:
    """The address of a compute host: n1 is 10.77.0.11, n2 is 10.77.0.12, ..."""
    network = EDGE_ADDRESS.rpartition(".")[0]
    return f"{network}.{FIRST_HOST_OCTET + host_number(host) - 1}"


def host_number(host: str) -> int:
    return int(host.removeprefix("n"))


def is_shared(path: Path) -> bool:
    """Whether all hosts see the same there; of a few folders each host has its own."""
    return not any(path.is_relative_to(private) for private in ("/tmp", "/dev", "/proc"))


@dataclass(frozen=True)
class Paths:
    """Every file of the sandbox, below one folder that `down` removes."""

    data: Path

    @classmethod
    def from_environment(cls) -> Paths:
        """The data folder: RAY_SLURM_SANDBOX_DIR, or /var/lib/ray-slurm-sandbox.

        Raises SandboxError for a folder that the hosts could not share.
        """
        data = Path(os.environ.get(DATA_DIR_ENV) or DEFAULT_DATA_DIR)
        if not data.is_absolute():
            raise SandboxError(f"{DATA_DIR_ENV}={data} is not an absolute path.")
        if not is_shared(data):
            raise SandboxError(
                f"{DATA_DIR_ENV}={data} lies where each host has a folder of its own; "
                f"choose one that all hosts see, such as {DEFAULT_DATA_DIR}."
            )
        return cls(data)

    @property
    def state(self) -> Path:
        return self.data / "state.json"

    @property
    def slurm_conf(self) -> Path:
        return self.data / "etc" / "slurm.conf"

    @property
    def slurmdbd_conf(self) -> Path:
        return self.data / "etc" / "slurmdbd.conf"

    @property
    def cgroup_conf(self) -> Path:
        return self.data / "etc" / "cgroup.conf"

    @property
    def gres_conf(self) -> Path:
        return self.data / "etc" / "gres.conf"

    @property
    def munge(self) -> Path:
        return self.data / "munge"

    @property
    def munge_socket(self) -> Path:
        return self.munge / "socket"

    @property
    def database(self) -> Path:
        return self.data / "db"

    @property
    def database_socket(self) -> Path:
        return self.database / "sock"

    @property
    def logs(self) -> Path:
        return self.data / "log"

    @property
    def spool(self) -> Path:
        return self.data / "spool"

    @property
    def devices(self) -> Path:
        return self.data / "dev"

    @property
    def homes(self) -> Path:
        return self.data / "home"

    @property
    def ssh(self) -> Path:
        return self.data / "ssh"

    @property
    def known_hosts(self) -> Path:
        return self.ssh / "known_hosts"

    @property
    def password_file(self) -> Path:
        return self.ssh / f"{PASSWORD_USER}.password"

    def home(self, user: str) -> Path:
        return self.homes / user

    def user_key(self, user: str) -> Path:
        return self.home(user) / ".ssh" / "id_ed25519"

    def host_tmp(self, host: str) -> Path:
        """Where a host's own /tmp lies on the machine's disk."""
        return self.data / "hosts" / host / "tmp"

    def output(self, process: str) -> Path:
        """What a daemon printed; Slurm's daemons also keep NAME.log, with times."""
        return self.logs / f"{process}.out"
