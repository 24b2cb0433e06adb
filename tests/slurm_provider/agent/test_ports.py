"""Claiming TCP ports; real sockets."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import astuple

import pytest

from slurm_provider.agent import ports
from slurm_provider.agent.ports import UNIT, NoFreePorts, PortBlock, PortRange, claim_block

CLAIM_AND_WAIT = """
import sys
from slurm_provider.agent.ports import PortRange, claim_block
low, high, cpus = sys.argv[1:]
block = claim_block(PortRange(int(low), int(high)), int(cpus))
print(*block._services, *block.workers, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def low() -> int:
    """The start of a range nobody else is likely to use at this moment."""
    return UNIT * random.randrange(10_000 // UNIT, 24_000 // UNIT)


@pytest.fixture
def blocks() -> Iterator[list[PortBlock]]:
    claimed: list[PortBlock] = []
    yield claimed
    for block in claimed:
        block.release()


def all_ports(block: PortBlock) -> set[int]:
    return {*block._services, *block.workers}


def test_two_claims_do_not_overlap(low: int, blocks: list[PortBlock]) -> None:
    port_range = PortRange(low, low + 20 * UNIT)
    blocks += [claim_block(port_range, 2) for _ in range(2)]
    assert not all_ports(blocks[0]) & all_ports(blocks[1])
    assert all(low <= port <= low + 20 * UNIT for block in blocks for port in all_ports(block))


def test_claims_of_different_ranges_do_not_overlap_either(
    low: int, blocks: list[PortBlock]
) -> None:
    for shift in (0, 50, 100):
        port_range = PortRange(low + shift, low + shift + 5 * UNIT)
        blocks.append(claim_block(port_range, 2))
    found = [port for block in blocks for port in all_ports(block)]
    assert len(found) == len(set(found))


def test_claims_of_several_processes_never_overlap(low: int) -> None:
    found: list[int] = []
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CLAIM_AND_WAIT, str(low), str(low + 30 * UNIT), "2"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
            )
            for _ in range(4)
        ]  # fmt: skip
        for process in processes:
            assert process.stdout is not None
            found += [int(port) for port in process.stdout.readline().split()]
    assert len(found) > 4 * 64
    assert len(found) == len(set(found))


def test_a_port_somebody_listens_on_is_left_out(low: int, blocks: list[PortBlock]) -> None:
    base = low // UNIT * UNIT
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", base + 5))
        listener.listen()
        blocks.append(claim_block(PortRange(base, base + UNIT - 1), 2))
    assert base + 5 not in all_ports(blocks[0])
    assert base + 6 in all_ports(blocks[0])


def test_a_taken_guard_port_means_another_block(low: int, blocks: list[PortBlock]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", low))
        blocks.append(claim_block(PortRange(low, low + 2 * UNIT - 1), 2))
    assert min(all_ports(blocks[0])) > low + UNIT


def test_given_out_ports_can_be_bound_by_ray(low: int, blocks: list[PortBlock]) -> None:
    blocks.append(claim_block(PortRange(low, low + 5 * UNIT), 2))
    for port in all_ports(blocks[0]):
        with socket.socket() as sock:
            sock.bind(("0.0.0.0", port))


def test_a_released_block_can_be_claimed_again(low: int, blocks: list[PortBlock]) -> None:
    only = PortRange(low, low + UNIT - 1)
    first = claim_block(only, 2)
    with pytest.raises(NoFreePorts):
        claim_block(only, 2)
    first.release()
    blocks.append(claim_block(only, 2))
    assert all_ports(blocks[0]) == all_ports(first)


def test_a_claim_ends_with_its_process(low: int, blocks: list[PortBlock]) -> None:
    argv = [sys.executable, "-c", CLAIM_AND_WAIT, str(low), str(low + UNIT - 1), "2"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()
    blocks.append(claim_block(PortRange(low, low + UNIT - 1), 2))


def test_a_child_process_does_not_inherit_the_claim(low: int) -> None:
    block = claim_block(PortRange(low, low + UNIT - 1), 2)
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    try:
        block.release()
        claim_block(PortRange(low, low + UNIT - 1), 2).release()
    finally:
        child.communicate()


@pytest.mark.parametrize("cpus", [1, 16, 64, 256])
def test_a_big_node_gets_four_worker_ports_per_cpu(
    low: int, blocks: list[PortBlock], cpus: int
) -> None:
    block = claim_block(PortRange(low, low + 60 * UNIT), cpus)
    blocks.append(block)
    assert len(block.workers) >= max(64, 4 * cpus) * 0.9  # some may be in use by others


def test_without_a_free_block_the_message_says_what_to_change(low: int) -> None:
    with pytest.raises(NoFreePorts, match=rf"{low} and {low + 10} on .*widen provider\.ports"):
        claim_block(PortRange(low, low + 10), 2)


def test_where_a_block_lies_cannot_be_known_from_outside() -> None:
    tried = {next(ports._candidates(PortRange(20_000, 32_767), 1)) for _ in range(50)}
    assert len(tried) > 25


def test_nobody_can_listen_on_a_reserved_port_until_it_is_handed_over(
    low: int, blocks: list[PortBlock]
) -> None:
    blocks.append(claim_block(PortRange(low, low + 5 * UNIT), 2))
    reserved = astuple(blocks[0].reserve())
    assert len(set(reserved)) == 11
    for port in reserved:
        for address in ("127.0.0.1", "0.0.0.0"):
            with socket.socket() as squatter, pytest.raises(OSError, match="in use"):
                squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                squatter.bind((address, port))
    blocks[0].hand_over()
    for port in reserved:
        socket.create_server(("127.0.0.1", port)).close()


def test_three_starts_of_ray_have_no_service_port_in_common(
    low: int, blocks: list[PortBlock]
) -> None:
    blocks.append(claim_block(PortRange(low, low + 5 * UNIT), 2))
    starts = [astuple(blocks[0].reserve()) for _ in range(3)]
    found = [port for start in starts for port in start]
    assert len(set(found)) == 33 and not set(found) & set(blocks[0].workers)


def test_a_port_that_was_taken_meanwhile_is_passed_over(low: int, blocks: list[PortBlock]) -> None:
    blocks.append(claim_block(PortRange(low, low + 5 * UNIT), 2))
    with socket.create_server(("127.0.0.1", blocks[0]._services[0])) as squatter:
        assert squatter.getsockname()[1] not in astuple(blocks[0].reserve())


def test_when_too_few_are_left_the_message_says_so(low: int, blocks: list[PortBlock]) -> None:
    blocks.append(claim_block(PortRange(low, low + 5 * UNIT), 2))
    with ExitStack() as stack:
        for port in list(blocks[0]._services)[:23]:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        with pytest.raises(NoFreePorts, match="other processes"):
            blocks[0].reserve()
