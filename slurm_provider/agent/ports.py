"""A block of TCP ports that no other Ray node on this host uses, whoever owns it.

Two Ray nodes on one host collide on Ray's default ports, and any "is it free?" check races
with the other node's check. So a block is claimed by *binding its first port and keeping it
bound* for the node's life: the kernel makes the claim exclusive between clusters and users,
and drops it when the process dies. The other ports are bind-checked before they are given out.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass

UNIT = 128  # ports claimed by one guard
_SERVICES = 14  # ports kept for Ray's own services; the rest is for workers
_WORKERS_PER_CPU = 4  # Ray starts more workers than CPUs: actors may ask for none


class NoFreePorts(Exception):
    """No block is left in the range."""


@dataclass(frozen=True)
class PortRange:
    low: int
    high: int  # inclusive


class PortBlock:
    """Ports held by this process; ``services`` for Ray's daemons, ``workers`` for its workers."""

    def __init__(self, guards: list[socket.socket], ports: list[int]) -> None:
        self._guards = guards
        self.services = ports[:_SERVICES]
        self.workers = ports[_SERVICES:]

    def release(self) -> None:
        for guard in self._guards:
            guard.close()


def claim_block(port_range: PortRange, cpus: int, *, seed: str) -> PortBlock:
    """Claim enough units for a node of ``cpus``; raises NoFreePorts.

    ``seed`` (the node id) spreads nodes over the range, so the first try usually succeeds.
    """
    units = -(-(_SERVICES + max(64, _WORKERS_PER_CPU * cpus)) // (UNIT - 1))
    for base in _candidates(port_range, units, seed):
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


def _candidates(port_range: PortRange, units: int, seed: str) -> Iterator[int]:
    # Multiples of UNIT, so that blocks of clusters with different ranges cannot overlap half-way.
    first = -(-port_range.low // UNIT) * UNIT
    bases = range(first, port_range.high - units * UNIT + 2, UNIT)
    if not bases:
        return
    start = random.Random(seed).randrange(len(bases))
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
