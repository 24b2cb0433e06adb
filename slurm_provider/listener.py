"""Whose process is at the other end of a connection within this host.

Any user may listen on any free port of a shared host, so a port number says nothing about who
answers there. Linux knows the owner of every socket (/proc/net/tcp, proc(5)): a secret is sent only
after the other end is known to be ours.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
import time

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENS = "0A"
_POLL_S = 0.02
# Of a server that is busy and has not accepted yet: kernels before 6.17 show root as its owner.
_ACCEPT_TIMEOUT_S = 10.0


class StrangerListens(ConnectionError):
    """The port belongs to another user, or its owner cannot be found out: send nothing."""


def check_owner(connection: socket.socket) -> None:
    """Return if the other end of this loopback connection is a process of this user or of root.

    Waits until it has been accepted. Raises StrangerListens otherwise, OSError for a connection
    that has ended.
    """
    deadline = time.monotonic() + _ACCEPT_TIMEOUT_S
    while not _is_ours(connection, deadline):
        time.sleep(_POLL_S)


async def check_owner_async(connection: socket.socket) -> None:
    """The same without holding up the event loop."""
    deadline = time.monotonic() + _ACCEPT_TIMEOUT_S
    while not _is_ours(connection, deadline):
        await asyncio.sleep(_POLL_S)


async def open_to_ours(
    host: str, port: int, *, limit: int = 2**16
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """``asyncio.open_connection`` for what may hold a secret; raises StrangerListens, too."""
    reader, writer = await asyncio.open_connection(host, port, limit=limit)
    try:
        await check_owner_async(writer.get_extra_info("socket"))
    except OSError:
        writer.transport.abort()
        raise
    return reader, writer


def listener_owner(port: int) -> int | None:
    """Uid of the process that listens on this port of the loopback interface; None for nobody."""
    for local, _, state, uid, _ in _sockets(port):
        address, _, number = local.partition(":")
        if state == _LISTENS and int(number, 16) == port and address in _LOOPBACK_OR_ANY:
            return uid
    return None


def _is_ours(connection: socket.socket, deadline: float) -> bool:
    """False: not known yet."""
    if sys.platform != "linux":
        return True  # cannot be known there; a tunnel is over before its port is free
    here, there = connection.getsockname()[:2], connection.getpeername()[:2]
    owner = _peer_owner(here, there)
    if owner is not None:
        if owner in (os.getuid(), 0):
            return True
        raise StrangerListens(
            f"port {there[1]} on {socket.gethostname()} belongs to another user (uid {owner}), so "
            "nothing was sent there"
        )
    if time.monotonic() > deadline:
        raise StrangerListens(
            f"nobody accepted the connection to port {there[1]} on {socket.gethostname()} in "
            f"{_ACCEPT_TIMEOUT_S:g} s, so its owner is not known and nothing was sent there"
        )
    return False


def _peer_owner(here: tuple[str, int], there: tuple[str, int]) -> int | None:
    """Uid of the socket at the other end; None where that is not known yet."""
    wanted = {(_shown(there, v6), _shown(here, v6)) for v6 in (False, True)}
    for local, remote, _, uid, inode in _sockets(there[1]):
        is_accepted = inode != "0" or uid != 0
        if (local, remote) in wanted and is_accepted:
            return uid
    return None


def _sockets(port: int) -> list[tuple[str, str, str, int, str]]:
    """(local, remote, state, uid, inode) of this network namespace's TCP sockets of a port."""
    found, mark = [], f":{port:04X} "
    for table in _TABLES:
        try:
            with open(table, encoding="ascii") as file:
                lines = [line for line in file if mark in line]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        for line in lines:
            fields = line.split()
            found.append((fields[1], fields[2], fields[3], int(fields[7]), fields[9]))
    return found


def _shown(address: tuple[str, int], v6: bool) -> str:
    """An address as the kernel's tables show it; IPv4 also as a socket of IPv6 carries it."""
    ip, port = address
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    packed = socket.inet_pton(family, ip)
    if v6 and family == socket.AF_INET:
        packed = b"\0" * 10 + b"\xff\xff" + packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


_LOOPBACK_OR_ANY = {
    _shown((ip, 0), v6).partition(":")[0]
    for ip in ("127.0.0.1", "0.0.0.0", "::1", "::")
    for v6 in (False, True)
}
