"""What a refusal is about, and what a partition's hosts have instead."""

from __future__ import annotations

from typing import Any

import pytest

from slurm_provider.fleet.offers import compared, time_beyond, too_little_memory
from slurm_provider.slurm import Gres, HostGroup, Partition

_SIZE = "allocation failure: Requested node configuration is not available"
_A100 = (Gres("gpu", "a100", 2),)
COMPUTE = Partition(
    "compute", True, True, 86400, 3600,
    (
        HostGroup(3, "idle", 4, 6000, _A100, ("ib",), "n[1-3]"),
        HostGroup(1, "mixed", 4, 6000, _A100, ("ib",), "n4"),
        HostGroup(2, "idle", 16, 3000, (), ("big", "ib"), "b[1-2]"),
    ),
)  # fmt: skip
LONG = Partition("long", False, True, None, None, (HostGroup(1, "idle", 2, 1, (), (), "l1"),))
SITE = [COMPUTE, LONG]
_KINDS = "16 CPUs, 3000 MB, no gres; or 4 CPUs, 6000 MB, gpu:a100:2"


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"mem": "500G", "cpus-per-task": 2}, "mem: 500G"),
        ({"mem-per-cpu": "2G", "cpus-per-task": 4}, "mem-per-cpu: 2G"),
        ({"mem": "2G", "cpus-per-task": 64}, "cpus-per-task: 64"),
        ({"mem": "2G", "gres": "gpu:h100:1"}, "gres: gpu:h100:1"),
        ({"gpus-per-node": "a100:3"}, "gpus-per-node: a100:3"),
        # No single option is too much: all of them together are.
        ({"mem": "5G", "cpus-per-task": 16}, "cpus-per-task: 16, mem: 5G"),
        ({"partition": "compute", "gres": "gpu:1", "constraint": "big"},
         "gres: gpu:1, constraint: big"),
    ],
)  # fmt: skip
def test_a_size_no_host_has_is_named_beside_what_the_hosts_have(
    options: dict[str, Any], asked: str
) -> None:
    assert (
        compared(_SIZE, options, SITE)
        == f". Asked for: {asked}; partition compute has hosts with {_KINDS}"
    )


def test_a_feature_a_host_and_a_time_limit_are_told_with_those_there_are() -> None:
    words = "allocation failure: Invalid feature specification"
    assert compared(words, {"constraint": "foo"}, SITE) == (
        ". Asked for: constraint: foo; features of the hosts of partition compute: big, ib"
    )
    assert compared(words, {"constraint": "foo", "partition": "long"}, SITE).endswith("long: none")
    words = "allocation failure: Invalid node name specified"
    assert compared(words, {"nodelist": "nowhere"}, SITE) == (
        ". Asked for: nodelist: nowhere; hosts of partition compute: n[1-3],n4,b[1-2]"
    )
    words = "allocation failure: Requested time limit is invalid (missing or exceeds some limit)"
    assert compared(words, {"time": "3-00:00:00"}, SITE) == (
        ". Asked for: time: 3-00:00:00; partition compute allows 1-00:00:00"
    )


def test_nothing_is_said_of_a_partition_that_is_not_listed() -> None:
    assert compared(_SIZE, {"mem": "500G", "partition": "hidden"}, SITE) == ""
    assert compared(_SIZE, {"mem": "500G"}, []) == ""
    assert compared("allocation failure: Access denied", {"mem": "500G"}, SITE) == ""


@pytest.mark.parametrize(
    ("options", "is_beyond"),
    [
        ({"time": "1-00:00:00"}, False),
        ({"time": "1-00:00:01"}, True),
        ({"time": "UNLIMITED"}, True),
        ({"time": "UNLIMITED", "partition": "long"}, False),
        ({"time": "3-00:00:00", "partition": "compute,long"}, False),
        ({"time": "3-00:00:00", "partition": "compute,hidden"}, False),
        ({"time": "3-00:00:00", "time-min": "1:00:00"}, False),
        ({}, False),
    ],
)
def test_a_time_limit_is_too_long_if_no_partition_asked_for_allows_it(
    options: dict[str, Any], is_beyond: bool
) -> None:
    found = time_beyond(options, SITE)
    assert (found is not None) is is_beyond
    if found is not None:
        assert found == (
            f"time: {options['time']} is longer than partition compute allows (1-00:00:00)"
        )


def test_a_head_needs_more_memory_than_a_worker() -> None:
    assert "mem: 100M is too little for a head" in str(
        too_little_memory({"mem": "100M"}, is_head=True)
    )
    assert too_little_memory({"mem": "400M"}, is_head=True)
    assert too_little_memory({"mem": "400M"}, is_head=False) is None
    assert too_little_memory({}, is_head=True) is None
    assert too_little_memory({"mem": "0"}, is_head=True) is None
