"""Run commands and move files over SSH, with paramiko. Nothing else in the project imports it."""

from __future__ import annotations

try:
    import paramiko as _paramiko  # noqa: F401
except ImportError as error:  # a head inside a job needs no SSH, so its environment may lack it
    raise ImportError(
        "an SSH connection needs paramiko, which this Python lacks: pip install 'paramiko>=3.4'"
    ) from error

from slurm_provider.transport.ssh.transport import SshTransport
from slurm_provider.transport.ssh_settings import SshSettings

__all__ = ["SshSettings", "SshTransport"]
