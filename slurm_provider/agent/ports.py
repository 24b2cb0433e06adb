"""TCP ports that no other Ray node on this host uses, whoever owns it, and that nobody can guess.

Two Ray nodes on one host collide on Ray's default ports, and any "is it free?" check races
with the other node's check. So a block is claimed by *binding its first port and keeping it
bound* for the node's life: the kernel makes the claim exclusive between clusters and users,
and drops it when the process dies.

Where the block lies is random, because everybody sees a node's id in the queue. The ports of
Ray's services stay bound until Ray starts, so nobody else can listen there meanwhile.
"""

from __future__ import annotations

import random
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields

UNIT = 128  # ports claimed by one guard
# Kept for Ray's own services, three starts of eleven; the rest of a block is for workers.
_SERVICES = 33
_WORKERS_PER_CPU = 4  # Ray starts more workers than CPUs: actors may ask for none
_random = random.SystemRandom()


class NoFreePorts(Exception):
    """No block is left in the range, or too few ports in the block."""


@dataclass(frozen=True)
class PortRange:
    low: int
    high: int  # inclusive


@dataclass(frozen=True)
class ServicePorts:
    """Ports of one start of Ray, by what listens there; the last five are a head's."""

    node_manager: int
    object_manager: int
    runtime_env_agent: int
    dashboard_agent_grpc: int
    dashboard_agent_http: int
    metrics_export: int
    gcs: int
    client_server: int
    dashboard: int
    autoscaler_metrics: int
    dashboard_metrics: int


class PortBlock:
    """Ports held by this process; ``workers`` are for Ray's worker processes."""

    def __init__(self, guards: list[socket.socket], ports: list[int]) -> None:
        """``guards`` are the bound first ports, ``ports`` all others."""
        self._guards = guards
        services = _random.sample(ports, _SERVICES)
        self._services = deque(services)
        self._reserved: list[socket.socket] = []
        self.workers = sorted(set(ports) - set(services))

    def reserve(self) -> ServicePorts:
        """Free ports for the next start of Ray, bound by this process until :meth:`hand_over`.

        They are none of the last two starts': a program that was connected to the Ray before would
        find its port again, take the new Ray for the old one and disturb it, as both count their
        jobs from one. Without it, it gives up within a minute.

        Raises NoFreePorts.
        """
        self.hand_over()
        wanted = len(fields(ServicePorts))
        for _ in range(len(self._services)):
            port = self._services.popleft()
            self._services.append(port)
            held = _bind(port)
            if held is not None:
                self._reserved.append(held)
            if len(self._reserved) == wanted:
                return ServicePorts(*(sock.getsockname()[1] for sock in self._reserved))
        raise NoFreePorts(
            f"other processes on {socket.gethostname()} listen on most of the {_SERVICES} TCP "
            "ports that were chosen for Ray's services here"
        )

    def hand_over(self) -> None:
        """Let go of the reserved ports, for the Ray that starts now."""
        while self._reserved:
            self._reserved.pop().close()

    def release(self) -> None:
        self.hand_over()
        for guard in self._guards:
            guard.close()


def claim_block(port_range: PortRange, cpus: int) -> PortBlock:
    """Claim enough units for a node of ``cpus``; raises NoFreePorts."""
    units = -(-(_SERVICES + max(64, _WORKERS_PER_CPU * cpus)) // (UNIT - 1))
    for base in _candidates(port_range, units):
        guards = _claim_guards(base, units)
        if guards is None:
            continue
        held = {guard.getsockname()[1] for guard in guards}
        ports = [p for p in range(base, base + units * UNIT) if p not in held and _is_free(p)]
        if len(ports) >= _SERVICES + cpus:
            return PortBlock(guards, ports)
        for guard in guards:
            guard.close()
    raise NoFreePorts(
        f"no free block of {units * UNIT} TCP ports between {port_range.low} and "
        f"{port_range.high} on {socket.gethostname()}; widen provider.ports"
    )


def _candidates(port_range: PortRange, units: int) -> Iterator[int]:
    # Multiples of UNIT, so that blocks of clusters with different ranges cannot overlap half-way.
    first = -(-port_range.low // UNIT) * UNIT
    bases = range(first, port_range.high - units * UNIT + 2, UNIT)
    if not bases:
        return
    start = _random.randrange(len(bases))
    for offset in range(len(bases)):
        yield bases[(start + offset) % len(bases)]


def _claim_guards(base: int, units: int) -> list[socket.socket] | None:
    guards: list[socket.socket] = []
    for unit in range(units):
        guard = _bind(base + unit * UNIT)
        if guard is None:
            for held in guards:
                held.close()
            return None
        guards.append(guard)
    return guards


def _bind(port: int) -> socket.socket | None:
    # No SO_REUSEADDR: with it, two sockets could hold one port while neither listens.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.bind(("0.0.0.0", port))
    except OSError:
        sock.close()
        return None
    return sock


def _is_free(port: int) -> bool:
    sock = _bind(port)
    if sock is None:
        return False
    sock.close()
    return True
