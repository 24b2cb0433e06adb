from __future__ import annotations

from datetime import datetime, timezone

import pytest

from sandbox.nodes import Node, parse_nodes

# Slurm 22.05: `TZ=UTC scontrol -o show node`, shortened.
TEXT = (
    "NodeName=n1 Arch=x86_64 CoresPerSocket=4  CPUAlloc=0 CPUTot=4 CPULoad=0.51 "
    "Gres=gpu:a100:2 NodeAddr=10.77.0.11 NodeHostName=n1 Version=22.05.8 "
    "OS=Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC  RealMemory=6000 State=IDLE ThreadsPerCore=1 "
    "Partitions=compute,gpu  BootTime=2026-11-22T23:54:47 SlurmdStartTime=2026-11-23T00:20:46\n"
    "NodeName=n2 CPUTot=4 State=DOWN* BootTime=None SlurmdStartTime=None Reason=power loss\n"
)


def test_nodes_are_read_from_what_slurm_prints() -> None:
    assert parse_nodes(TEXT) == {
        "n1": Node("n1", "IDLE", datetime(2026, 11, 23, 0, 20, 46, tzinfo=timezone.utc)),
        "n2": Node("n2", "DOWN*", None),
    }


@pytest.mark.parametrize(
    ("state", "is_usable", "needs_resume"),
    [
        ("IDLE", True, False),
        ("IDLE+PLANNED", True, False),
        ("MIXED", True, False),
        ("ALLOCATED", True, False),
        ("IDLE+COMPLETING", False, False),
        ("IDLE*", False, False),
        ("DOWN", False, True),
        ("DOWN*", False, True),
        ("IDLE+DRAIN", False, True),
        ("DOWN+DRAIN", False, True),
    ],
)
def test_a_state_says_whether_jobs_start_there_and_whether_it_must_be_resumed(
    state: str, is_usable: bool, needs_resume: bool
) -> None:
    node = Node("n1", state, None)
    assert (node.is_usable, node.needs_resume) == (is_usable, needs_resume)
