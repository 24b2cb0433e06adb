"""The edge node's sshd: keys for both users, a password for one, SFTP, TCP forwarding."""

from __future__ import annotations

import contextlib
from pathlib import Path

from .commands import run_command
from .layout import EDGE_ADDRESS, SSH_PORT, USERS, Paths
from .users import known_hosts, login_path

_PRIVILEGE_SEPARATION_FOLDER = Path("/run/sshd")  # compiled into Debian's sshd


def sshd_config(paths: Paths, env_prefix: str | None) -> str:
    """The text of sshd_config(5)."""
    return "\n".join(
        [
            f"ListenAddress {EDGE_ADDRESS}:{SSH_PORT}",
            f"HostKey {host_key(paths)}",
            "PidFile none",
            f"AllowUsers {' '.join(USERS)}",
            "PubkeyAuthentication yes",
            "AuthorizedKeysFile .ssh/authorized_keys",
            "PasswordAuthentication yes",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "AllowTcpForwarding yes",
            "AcceptEnv LANG LC_*",
            f"SetEnv SLURM_CONF={paths.slurm_conf} PATH={login_path(env_prefix)}",
            "Subsystem sftp internal-sftp",
            "PrintMotd no",
            "UseDNS no",
            "# Tests open many sessions at once.",
            "MaxStartups 100",
            "MaxSessions 50",
            "",
        ]
    )


def host_key(paths: Paths) -> Path:
    return paths.ssh / "host_ed25519"


def prepare_sshd(paths: Paths) -> str:
    """Make the host key and the known_hosts file; returns the public key's text."""
    _PRIVILEGE_SEPARATION_FOLDER.mkdir(mode=0o755, exist_ok=True)
    key = host_key(paths)
    if not key.exists():
        run_command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edge", "-f", str(key)])
    public_key = key.with_suffix(".pub").read_text()
    paths.known_hosts.write_text(known_hosts(public_key))
    return public_key


def is_folder_missing() -> bool:
    """Whether the folder every sshd needs is for the sandbox to make (and to remove)."""
    return not _PRIVILEGE_SEPARATION_FOLDER.exists()


def remove_folder() -> None:
    with contextlib.suppress(OSError):  # gone, or in use by an sshd of the machine by now
        _PRIVILEGE_SEPARATION_FOLDER.rmdir()


def write_sshd_config(paths: Paths, env_prefix: str | None) -> Path:
    config = paths.ssh / "sshd_config"
    config.write_text(sshd_config(paths, env_prefix))
    return config
