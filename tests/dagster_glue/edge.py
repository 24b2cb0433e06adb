"""The sandbox's edge node as user1 sees it over SSH."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slurm_provider.transport import SshSettings, SshTransport, Transport
from tests.sandbox_fixture import RunningSandbox


def ssh_section(sandbox: RunningSandbox, user: str = "user1") -> dict[str, Any]:
    """``provider.ssh`` of a cluster YAML."""
    edge = sandbox.info["edge"]
    return {
        "host": edge["address"],
        "port": edge["ssh_port"],
        "user": user,
        "key_path": sandbox.info["users"][user]["key_path"],
        "known_hosts": sandbox.info["known_hosts"],
    }


@contextmanager
def edge_transport(sandbox: RunningSandbox, user: str = "user1") -> Iterator[Transport]:
    transport = SshTransport(SshSettings(**ssh_section(sandbox, user)))
    try:
        yield transport
    finally:
        transport.close()
