"""Claiming TCP ports; real sockets."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from slurm_provider.agent import ports
from slurm_provider.agent.ports import UNIT, NoFreePorts, PortBlock, PortRange, claim_block

CLAIM_AND_WAIT = """
import sys
from slurm_provider.agent.ports import PortRange, claim_block
low, high, cpus, seed = sys.argv[1:]
block = claim_block(PortRange(int(low), int(high)), int(cpus), seed=seed)
print(*block.services, *block.workers, flush=True)
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
    return {*block.services, *block.workers}


def test_two_claims_with_the_same_seed_do_not_overlap(low: int, blocks: list[PortBlock]) -> None:
    port_range = PortRange(low, low + 20 * UNIT)
    blocks += [claim_block(port_range, 2, seed="same") for _ in range(2)]
    assert not all_ports(blocks[0]) & all_ports(blocks[1])
    assert all(low <= port <= low + 20 * UNIT for block in blocks for port in all_ports(block))


def test_claims_of_different_ranges_do_not_overlap_either(
    low: int, blocks: list[PortBlock]
) -> None:
    for shift in (0, 50, 100):
        port_range = PortRange(low + shift, low + shift + 5 * UNIT)
        blocks.append(claim_block(port_range, 2, seed="same"))
    found = [port for block in blocks for port in all_ports(block)]
    assert len(found) == len(set(found))


def test_claims_of_several_processes_never_overlap(low: int) -> None:
    found: list[int] = []
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CLAIM_AND_WAIT, str(low), str(low + 30 * UNIT), "2",
                     "same"],
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
        blocks.append(claim_block(PortRange(base, base + UNIT - 1), 2, seed="x"))
    assert base + 5 not in all_ports(blocks[0])
    assert base + 6 in all_ports(blocks[0])


def test_a_taken_guard_port_means_another_block(low: int, blocks: list[PortBlock]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", low))
        blocks.append(claim_block(PortRange(low, low + 2 * UNIT - 1), 2, seed="x"))
    assert min(all_ports(blocks[0])) > low + UNIT


def test_given_out_ports_can_be_bound_by_ray(low: int, blocks: list[PortBlock]) -> None:
    blocks.append(claim_block(PortRange(low, low + 5 * UNIT), 2, seed="x"))
    for port in all_ports(blocks[0]):
        with socket.socket() as sock:
            sock.bind(("0.0.0.0", port))


def test_a_released_block_can_be_claimed_again(low: int, blocks: list[PortBlock]) -> None:
    only = PortRange(low, low + UNIT - 1)
    first = claim_block(only, 2, seed="x")
    with pytest.raises(NoFreePorts):
        claim_block(only, 2, seed="y")
    first.release()
    blocks.append(claim_block(only, 2, seed="y"))
    assert all_ports(blocks[0]) == all_ports(first)


def test_a_claim_ends_with_its_process(low: int, blocks: list[PortBlock]) -> None:
    argv = [sys.executable, "-c", CLAIM_AND_WAIT, str(low), str(low + UNIT - 1), "2", "x"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()
    blocks.append(claim_block(PortRange(low, low + UNIT - 1), 2, seed="x"))


def test_a_child_process_does_not_inherit_the_claim(low: int) -> None:
    block = claim_block(PortRange(low, low + UNIT - 1), 2, seed="x")
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    try:
        block.release()
        claim_block(PortRange(low, low + UNIT - 1), 2, seed="x").release()
    finally:
        child.communicate()


@pytest.mark.parametrize("cpus", [1, 16, 64, 256])
def test_a_big_node_gets_four_worker_ports_per_cpu(
    low: int, blocks: list[PortBlock], cpus: int
) -> None:
    block = claim_block(PortRange(low, low + 60 * UNIT), cpus, seed="x")
    blocks.append(block)
    assert len(block.services) == 14
    assert len(block.workers) >= max(64, 4 * cpus) * 0.9  # some may be in use by others


def test_without_a_free_block_the_message_says_what_to_change(low: int) -> None:
    with pytest.raises(NoFreePorts, match=rf"{low} and {low + 10} on .*widen provider\.ports"):
        claim_block(PortRange(low, low + 10), 2, seed="x")


def test_seeds_spread_the_first_try_over_the_range() -> None:
    tried = {
        next(ports._candidates(PortRange(20_000, 32_767), 1, f"launch-{n}")) for n in range(50)
    }
    assert len(tried) > 25
