"""The sandbox's network: a bridge on the edge node, a virtual cable per host, names in /etc/hosts.

A host's end of the cable lives in the host's network namespace and vanishes with it.
"""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from .commands import attempt, run_command
from .errors import SandboxError
from .layout import (
    BRIDGE,
    EDGE_ADDRESS,
    EDGE_NAME,
    MARK,
    NETWORK_PREFIX_BITS,
    Shape,
    host_address,
    host_number,
)

HOSTS_FILE = Path("/etc/hosts")
_BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_FIREWALL_RULE = ["FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT"]


def create_bridge() -> None:
    """The edge node's side of the network. Harmless if it is there."""
    if bridge_exists():
        return
    if EDGE_ADDRESS in run_command(["ip", "-4", "-oneline", "addr"]).replace("/", " ").split():
        raise SandboxError(
            f"The address {EDGE_ADDRESS} is already in use on this machine; the sandbox needs the "
            f"network {EDGE_ADDRESS}/{NETWORK_PREFIX_BITS} to itself."
        )
    run_command(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run_command(["ip", "addr", "add", f"{EDGE_ADDRESS}/{NETWORK_PREFIX_BITS}", "dev", BRIDGE])
    run_command(["ip", "link", "set", BRIDGE, "alias", MARK, "up"])


def remove_bridge() -> None:
    if bridge_exists():
        run_command(["ip", "link", "del", BRIDGE])


def bridge_exists() -> bool:
    return BRIDGE in _interfaces()


def open_firewall() -> bool:
    """Let hosts talk through the bridge where the machine filters bridged traffic.

    Docker, for one, drops it (policy of FORWARD). True if a rule was added, for close_firewall.
    """
    filters = _BRIDGE_FILTER.exists() and _BRIDGE_FILTER.read_text().strip() == "1"
    if not filters or not shutil.which("iptables"):
        return False
    run_command(["iptables", "-w", "-I", *_FIREWALL_RULE])
    return True


def close_firewall() -> None:
    attempt(["iptables", "-w", "-D", *_FIREWALL_RULE])


def connect_host(host: str, init_pid: int) -> None:
    """Put a cable between the bridge and the network namespace of the host's process 1."""
    cable = _cable(host)
    # A fixed hardware address keeps the neighbours' ARP tables right over a power loss.
    mac = f"02:00:0a:4d:00:{host_number(host):02x}"
    run_command(
        ["ip", "-batch", "-"],
        text_in=(
            f"link add {cable} type veth peer name eth0 address {mac} netns {init_pid}\n"
            f"link set {cable} master {BRIDGE} up\n"
        ),
    )
    # A default route, as real hosts have: programs look at it to learn their own address.
    run_command(
        ["nsenter", "--target", str(init_pid), "--net", "ip", "-batch", "-"],
        text_in=(
            f"addr add {host_address(host)}/{NETWORK_PREFIX_BITS} dev eth0\n"
            "link set lo up\n"
            "link set eth0 up\n"
            f"route add default via {EDGE_ADDRESS}\n"
        ),
    )


def disconnect_host(host: str) -> None:
    """Pull the cable. Harmless if there is none."""
    if _cable(host) in _interfaces():
        attempt(["ip", "link", "del", _cable(host)])


def remove_cables() -> None:
    """Remove the bridge side of every cable."""
    for name in _interfaces():
        if name.startswith(_cable("n")):
            attempt(["ip", "link", "del", name])


def write_host_names(shape: Shape) -> None:
    """Name the edge node and the hosts in /etc/hosts, in lines of our own."""
    names = [(EDGE_ADDRESS, EDGE_NAME)]
    names += [(host_address(host), host) for host in shape.host_names]
    _rewrite_hosts_file(with_names(HOSTS_FILE.read_text(), names))


def remove_host_names() -> None:
    _rewrite_hosts_file(without_names(HOSTS_FILE.read_text()))


def with_names(text: str, names: list[tuple[str, str]]) -> str:
    """The text of /etc/hosts with one marked line per (address, name), older ones replaced."""
    others = without_names(text)
    if others and not others.endswith("\n"):
        others += "\n"
    return others + "".join(f"{address} {name} # {MARK}\n" for address, name in names)


def without_names(text: str) -> str:
    """The text of /etc/hosts without our lines."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.rstrip("\n").endswith(f"# {MARK}"))


def _interfaces() -> list[str]:
    # By system call: /sys may be another network namespace's.
    return [name for _, name in socket.if_nameindex()]


def _rewrite_hosts_file(text: str) -> None:
    # In place: in a container /etc/hosts is a mount of its own and cannot be replaced.
    if text != HOSTS_FILE.read_text():
        HOSTS_FILE.write_text(text)


def _cable(host: str) -> str:
    return f"rs-{host}"
