"""Entry point of the code archive: ``python CODE.zip COMMAND ...`` on a node."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO, cast


def main(arguments: Sequence[str]) -> int:
    """Dispatch; each command imports only what it needs."""
    command, *rest = arguments
    if command == "node":
        return _node(*rest)
    if command == "start":
        from slurm_provider.agent.shim import start

        return start(rest)
    if command == "start-worker":
        from slurm_provider.agent.shim import start_worker

        return start_worker(rest)
    if command == "stop":
        from slurm_provider.agent.shim import stop

        return stop()
    if command == "drain":
        from slurm_provider.agent.drain import drain

        return drain(rest[0], rest[1], int(rest[2]))
    if command == "place":
        from slurm_provider.agent.mounts import place

        place(rest[0], rest[1])
        return 0
    if command == "relay":
        from slurm_provider.transport.relay import relay_main

        return relay_main(rest[0], int(rest[1]))
    print(f"unknown command {command!r}", file=sys.stderr)
    return 2


def _node(cluster_dir: str, launch: str, index: str | None = None) -> int:
    from slurm_provider.agent.head import run_head
    from slurm_provider.agent.network import NetworkError
    from slurm_provider.agent.node import Node, NodeError, Spec
    from slurm_provider.agent.ports import NoFreePorts
    from slurm_provider.agent.scratch import ScratchError
    from slurm_provider.agent.tls import TlsError
    from slurm_provider.agent.unfailing import UnfailingStream
    from slurm_provider.agent.worker import run_worker

    # Both are the node's log, on the shared file system.
    sys.stdout = cast(TextIO, UnfailingStream(sys.stdout))
    sys.stderr = cast(TextIO, UnfailingStream(sys.stderr))
    try:
        node = Node(Spec.read(cluster_dir, launch, os.environ, index))
    except NodeError as error:
        print(f"[agent] {error}", file=sys.stderr, flush=True)
        return 1
    try:
        return run_head(node) if node.spec.values["kind"] == "head" else run_worker(node)
    except (NodeError, NetworkError, NoFreePorts, ScratchError, TlsError) as error:
        node.leave(str(error), 1)
        return 1
    except BaseException as error:
        node.leave(f"the agent failed: {error!r}", 1)
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
