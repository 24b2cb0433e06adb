"""Which address of the host is used."""

from __future__ import annotations

import socket

import pytest

from slurm_provider.agent import network
from slurm_provider.agent.network import (
    NetworkError,
    interface_addresses,
    node_address,
    own_address,
)


def test_an_interface_is_named_by_its_name() -> None:
    assert node_address("lo", None) == "127.0.0.1"


@pytest.mark.parametrize("block", ["127.0.0.0/8", "127.0.0.1", "127.0.0.1/24"])
def test_a_block_finds_the_address_in_it(block: str) -> None:
    assert node_address(block, "10.0.0.1") == "127.0.0.1"


def test_a_configured_network_wins_over_the_route_to_the_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    addresses = {"eth0": "10.1.0.7", "ib0": "10.2.0.7"}
    monkeypatch.setattr(network, "interface_addresses", lambda: addresses)
    assert node_address("ib0", "127.0.0.1") == "10.2.0.7"
    assert node_address("10.2.0.0/16", "127.0.0.1") == "10.2.0.7"


@pytest.mark.parametrize("wrong", ["nope0", "10.999.0.0/16"])
def test_an_unknown_interface_is_refused_with_those_there_are(wrong: str) -> None:
    with pytest.raises(NetworkError, match=rf"provider\.network '{wrong}'.*lo 127\.0\.0\.1"):
        node_address(wrong, None)


def test_a_block_without_an_address_of_this_host_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"no address in provider\.network 203\.0\.113\.0/24"):
        node_address("203.0.113.0/24", None)


def test_an_ipv6_block_is_refused_and_no_error_of_python() -> None:
    with pytest.raises(NetworkError, match=r"no address in provider\.network"):
        node_address("fd00::/8", None)


def test_without_a_network_the_route_to_the_head_decides() -> None:
    assert node_address(None, "127.0.0.1") == "127.0.0.1"


def test_an_unreachable_head_is_named() -> None:
    with pytest.raises(NetworkError, match=r"no route from .* to head\.invalid"):
        node_address(None, "head.invalid")


def test_a_head_does_not_announce_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    # Debian's /etc/hosts has 127.0.1.1 for the host's own name.
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    addresses = {"lo": "127.0.0.1", "eth0": "10.1.0.7"}
    monkeypatch.setattr(network, "interface_addresses", lambda: addresses)
    assert node_address(None, None) == "10.1.0.7"


def test_a_host_with_loopback_only_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "127.0.1.1")
    monkeypatch.setattr(network, "interface_addresses", lambda: {"lo": "127.0.0.1"})
    with pytest.raises(NetworkError, match="no IPv4 address besides loopback"):
        node_address(None, None)


def test_the_interfaces_are_those_of_the_kernel() -> None:
    assert interface_addresses()["lo"] == "127.0.0.1"


def test_a_name_of_this_host_becomes_the_number_that_others_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = [each for each in interface_addresses().values() if not each.startswith("127.")]
    if not others:
        pytest.skip("this host has no address besides loopback")
    known = {"head-ib": others[0], "my-host": "127.0.1.1"}
    monkeypatch.setattr(socket, "gethostbyname", known.__getitem__)
    assert own_address("head-ib", "10.0.0.1") == others[0]
    assert own_address("my-host", "10.0.0.1") == "10.0.0.1"


def test_a_name_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "gethostbyname", unknown)
    with pytest.raises(NetworkError, match=r"'head-ib' is not known on this host .*Name or"):
        own_address("head-ib", "10.0.0.1")


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(NetworkError, match=r"203\.0\.113\.7 .* is no address of .*`nodelist`"):
        own_address("203.0.113.7", "10.0.0.1")
