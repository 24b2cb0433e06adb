"""Both ends of a lease: this process renews it, the head's agent watches it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from dagster_glue.clusters import lease as lease_module
from dagster_glue.clusters.lease import Lease, lease_key
from slurm_provider.agent.leases import LeaseWatch, read_leases
from slurm_provider.transport import LocalTransport


def test_a_held_lease_keeps_the_cluster_and_a_returned_one_does_not(tmp_path: Path) -> None:
    lease = Lease(LocalTransport(), str(tmp_path), "run", "step")
    watch = LeaseWatch(0, now=0)
    lease.take()
    try:
        assert not watch.is_unwanted(read_leases(str(tmp_path / "leases")), now=1)
    finally:
        lease.give_back()
    assert watch.is_unwanted(read_leases(str(tmp_path / "leases")), now=2)


def test_a_lease_is_renewed_while_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_RENEW_S", 0.01)
    lease = Lease(LocalTransport(), str(tmp_path), "run", "step")
    lease.take()
    try:
        first = read_leases(str(tmp_path / "leases"))
        deadline = time.monotonic() + 10
        while read_leases(str(tmp_path / "leases")) == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        lease.give_back()


def test_a_lease_that_is_handed_over_lasts_for_the_time_given(tmp_path: Path) -> None:
    lease = Lease(LocalTransport(), str(tmp_path), "run", "step")
    lease.take()
    lease.hand_over(100)
    watch = LeaseWatch(0, now=0)
    left = read_leases(str(tmp_path / "leases"))
    assert not watch.is_unwanted(left, now=0)
    assert not watch.is_unwanted(left, now=99)
    assert watch.is_unwanted(left, now=100)


def test_only_the_owner_can_read_a_lease(tmp_path: Path) -> None:
    lease = Lease(LocalTransport(), str(tmp_path), "run", "step")
    lease.take()
    try:
        (file,) = (tmp_path / "leases").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
    finally:
        lease.give_back()


def test_calls_of_one_step_hold_leases_of_their_own(tmp_path: Path) -> None:
    leases = [Lease(LocalTransport(), str(tmp_path), "run", "step") for _ in range(2)]
    for lease in leases:
        lease.take()
    try:
        names = list(read_leases(str(tmp_path / "leases")))
        assert len(names) == 2
        assert all(name.startswith(lease_key("run", "step")) for name in names)
    finally:
        leases[0].give_back()
        leases[1].give_back()
    assert read_leases(str(tmp_path / "leases")) == {}


def test_a_cluster_that_is_gone_does_not_come_back_by_a_renewal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_RENEW_S", 0.01)
    lease = Lease(LocalTransport(), str(tmp_path / "cluster"), "run", "step")
    lease.take()
    shutil.rmtree(tmp_path / "cluster")
    lease._thread.join(10)  # it notices
    lease.give_back()
    assert not (tmp_path / "cluster").exists()
