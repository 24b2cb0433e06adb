"""Run a command here or over SSH; put and get files; tunnel TCP through a command's pipes.

``SshTransport`` is loaded on first use: it needs paramiko, which a Ray head may lack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_provider.transport.base import (
    AuthenticationFailed,
    CommandNotFound,
    CommandTimeout,
    Completed,
    ConnectFailed,
    HostKeyRejected,
    Process,
    SocketLike,
    Transport,
    TransportError,
)
from slurm_provider.transport.local import LocalTransport
from slurm_provider.transport.ssh_settings import SshSettings

if TYPE_CHECKING:
    from slurm_provider.transport.ssh import SshTransport
    from slurm_provider.transport.tunnel import Tunnel

__all__ = [
    "AuthenticationFailed",
    "CommandNotFound",
    "CommandTimeout",
    "Completed",
    "ConnectFailed",
    "HostKeyRejected",
    "LocalTransport",
    "Process",
    "SocketLike",
    "SshSettings",
    "SshTransport",
    "Transport",
    "TransportError",
    "Tunnel",
]


def __getattr__(name: str) -> Any:
    if name == "SshTransport":
        from slurm_provider.transport.ssh import SshTransport

        return SshTransport
    if name == "Tunnel":
        from slurm_provider.transport.tunnel import Tunnel

        return Tunnel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
