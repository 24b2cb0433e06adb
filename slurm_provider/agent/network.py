"""Which address of this host the other nodes should use."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct

_SIOCGIFADDR = 0x8915


class NetworkError(Exception):
    """No address fits the configuration."""


def node_address(network: str | None, peer: str | None) -> str:
    """This host's IPv4 address for the cluster.

    ``network`` (``provider.network``) is an interface name or a CIDR block. Without it: the
    address of the route to ``peer`` (the head), else what the host's name resolves to.
    """
    if network:
        return _address_in(network)
    if peer:
        return _route_source(peer)
    try:
        resolved = socket.gethostbyname(socket.gethostname())
    except OSError:
        resolved = "127.0.0.1"
    if not resolved.startswith("127."):
        return resolved
    addresses = [a for a in interface_addresses().values() if not a.startswith("127.")]
    if not addresses:
        raise NetworkError("this host has no IPv4 address besides loopback")
    return addresses[0]


def own_address(name: str, default: str) -> str:
    """The IPv4 address of this host that a user's ``name`` (or address) means.

    ``default`` where that is loopback, which many hosts' own names are in their /etc/hosts. Ray
    gets a number, because its own look-up waits for IPv6 answers that may never come.
    """
    try:
        found = socket.gethostbyname(name)
    except OSError as error:
        raise NetworkError(f"the address of {name!r} is not known on this host ({error})") from None
    if found.startswith("127."):
        return default
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((found, 0))
        except OSError:
            raise NetworkError(
                f"{name} ({found}) is no address of {socket.gethostname()}, where Slurm has put "
                "the head: name a host for it (`nodelist` in its node_config), or leave the "
                "address out"
            ) from None
    return found


def interface_addresses() -> dict[str, str]:
    """IPv4 address of each interface that has one."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(sock.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue  # no IPv4 address on it
            found[name] = socket.inet_ntoa(answer[20:24])
    return found


def _address_in(network: str) -> str:
    addresses = interface_addresses()
    if network in addresses:
        return addresses[network]
    listed = ", ".join(f"{name} {address}" for name, address in addresses.items())
    try:
        block = ipaddress.ip_network(network, strict=False)
    except ValueError:
        raise NetworkError(
            f"provider.network {network!r} is no interface of {socket.gethostname()} "
            f"(it has: {listed})"
        ) from None
    for address in addresses.values():
        if ipaddress.ip_address(address) in block:
            return address
    raise NetworkError(
        f"{socket.gethostname()} has no address in provider.network {network} (it has: {listed})"
    )


def _route_source(peer: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((peer, 9))  # UDP: nothing is sent, the kernel only picks the route
        except OSError as error:
            raise NetworkError(f"no route from {socket.gethostname()} to {peer}: {error}") from None
        return str(sock.getsockname()[0])
