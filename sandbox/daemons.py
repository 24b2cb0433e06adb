"""The daemons of the edge node: how each is started, and how one knows that it is ready."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from .commands import DAEMON_PATH, attempt, run_command
from .layout import (
    ACCOUNT,
    CLUSTER_NAME,
    DATABASE,
    EDGE_ADDRESS,
    SLURMDBD_PORT,
    SSH_PORT,
    USERS,
    Paths,
)
from .namespaces import enter_edge
from .processes import ProcessId, start_daemon, wait_until

EDGE_DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "sshd")
READY_TIMEOUT_S = 30.0


def start_munged(paths: Paths) -> ProcessId:
    """munged with a key and a socket of its own; a munged of the machine is not touched."""
    key = paths.munge / "key"
    if not key.exists():
        key.touch(mode=0o400)
        key.write_bytes(secrets.token_bytes(128))
    process = _start(
        "munged",
        [
            "munged",
            "--foreground",
            "--force",  # a restarted munged finds the socket of the one that died
            "--num-threads=4",
            f"--socket={paths.munge_socket}",
            f"--key-file={key}",
            f"--pid-file={paths.munge}/pid",
            f"--seed-file={paths.munge}/seed",
        ],
        paths,
    )
    return _when_ready("munged", process, paths, lambda: _answers(paths.munge_socket))


def create_database_folder(paths: Paths) -> None:
    """MariaDB's own files, without any database of ours. Harmless if they are there."""
    if (paths.database / "mysql").exists():
        return
    shutil.chown(paths.database, "mysql", "mysql")
    run_command(
        [
            "mariadb-install-db",
            "--no-defaults",
            "--user=mysql",
            f"--datadir={paths.database}",
            "--skip-test-db",
            "--skip-name-resolve",
            "--auth-root-authentication-method=socket",
        ]
    )


def start_mariadbd(paths: Paths) -> ProcessId:
    """MariaDB on a socket of its own, small, without network."""
    process = _start(
        "mariadbd",
        [
            "mariadbd",
            "--no-defaults",
            "--user=mysql",
            f"--datadir={paths.database}",
            f"--socket={paths.database_socket}",
            f"--pid-file={paths.database}/pid",
            "--skip-networking",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-lock-wait-timeout=900",  # slurmdbd asks for it
            # slurmdbd 26.05 asks for it; older MariaDBs do not know it, hence "loose".
            "--loose-innodb-snapshot-isolation=OFF",
        ],
        paths,
    )
    return _when_ready("mariadbd", process, paths, lambda: _answers(paths.database_socket))


def create_database(paths: Paths) -> None:
    """The empty database that slurmdbd keeps its records in. Harmless if it is there.

    slurmdbd would create it, and then connect once more by the same handle; with Debian 13's
    MariaDB client library (3.4.10) that handle fails at its next query, and slurmdbd ends.
    """
    run_command(
        [
            "mariadb",
            "--no-defaults",
            f"--socket={paths.database_socket}",
            f"--execute=CREATE DATABASE IF NOT EXISTS {DATABASE}",
        ]
    )


def start_slurmdbd(paths: Paths) -> ProcessId:
    process = _start("slurmdbd", ["slurmdbd", "-D"], paths)
    return _when_ready("slurmdbd", process, paths, lambda: _listens(SLURMDBD_PORT))


def create_accounts(paths: Paths) -> None:
    """Slurm's own users: everybody in one account, with two narrow qos to run into."""
    qos = "normal,tiny,few"
    for words in (
        f"add cluster {CLUSTER_NAME}",
        "add qos tiny set GrpTRES=cpu=1",
        "add qos few set MaxSubmitJobsPerUser=2",
        f"add account {ACCOUNT} Cluster={CLUSTER_NAME} Description=sandbox Organization=sandbox",
        f"add user {','.join((*USERS, 'root'))} Account={ACCOUNT} Cluster={CLUSTER_NAME} QOS={qos}",
    ):
        run_command(["sacctmgr", "-i", "-Q", *words.split()], env=slurm_env(paths))


def start_slurmctld(paths: Paths) -> ProcessId:
    process = _start("slurmctld", ["slurmctld", "-D"], paths)
    return _when_ready("slurmctld", process, paths, lambda: slurmctld_answers(paths))


def slurmctld_answers(paths: Paths) -> bool:
    return attempt(["scontrol", "ping"], env=slurm_env(paths)).returncode == 0


def start_sshd(paths: Paths) -> ProcessId:
    program = shutil.which("sshd", path=DAEMON_PATH) or "sshd"  # sshd insists on its full path
    process = _start("sshd", [program, "-D", "-e", "-f", f"{paths.ssh}/sshd_config"], paths)
    return _when_ready("sshd", process, paths, lambda: _listens(SSH_PORT))


def slurm_env(paths: Paths) -> dict[str, str]:
    """What Slurm's programs need to know; UTC so that the times they print can be compared."""
    return {"SLURM_CONF": str(paths.slurm_conf), "TZ": "UTC"}


def process_mark(paths: Paths) -> tuple[str, str]:
    """An environment variable and its value that every daemon of this sandbox carries."""
    return "RAY_SLURM_SANDBOX_DAEMON_OF", str(paths.data)


def daemon_env(paths: Paths) -> dict[str, str]:
    """The whole environment of a daemon."""
    mark, value = process_mark(paths)
    return {
        mark: value,
        "PATH": DAEMON_PATH,
        "LANG": "C.UTF-8",
        "SLURM_CONF": str(paths.slurm_conf),
        # slurmdbd.conf has no key for the socket; the MariaDB client library reads this.
        "MYSQL_UNIX_PORT": str(paths.database_socket),
    }


def _start(name: str, argv: list[str], paths: Paths) -> ProcessId:
    return start_daemon(argv, paths.output(name), daemon_env(paths), in_child=enter_edge)


def _when_ready(
    name: str, process: ProcessId, paths: Paths, is_ready: Callable[[], bool]
) -> ProcessId:
    wait_until(is_ready, name, READY_TIMEOUT_S, process, paths.output(name))
    return process


def _answers(unix_socket: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(unix_socket)) == 0


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((EDGE_ADDRESS, port)) == 0
