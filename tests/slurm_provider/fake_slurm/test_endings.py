"""scancel's odd answers, sweeping, and what is left without accounting."""

from __future__ import annotations

import pytest

from slurm_provider.fleet.identity import HEAD
from slurm_provider.slurm import AccountingUnavailable, SlurmError, SlurmMissing
from tests.slurm_provider.fake_slurm.programs import Bench, SlurmPrograms

DENIED = "scancel: error: Kill job error on job id 101_1: Access/permission denied\n"


def test_many_nodes_are_one_scancel(bench: Bench, slurm: SlurmPrograms) -> None:
    fleet = bench.fleet()
    fleet.cancel(bench.launch(fleet, 20))
    assert len(slurm.calls("scancel")) == 1
    assert [job["state"] for job in slurm.jobs] == ["RUNNING"] + ["CANCELLED"] * 20


def test_a_job_that_is_gone_is_no_error(bench: Bench, slurm: SlurmPrograms) -> None:
    fleet = bench.fleet()
    identifiers = bench.launch(fleet)
    slurm.write_jobs(slurm.jobs[:1])
    fleet.cancel(identifiers)
    assert bench.workers(fleet) == []


def test_a_partly_refused_scancel_is_an_error_in_slurms_words(
    bench: Bench, slurm: SlurmPrograms
) -> None:
    fleet = bench.fleet(watched=True)
    identifiers = bench.launch(fleet, 3)
    slurm.answer("scancel", stderr=DENIED, rc=1, done=True)
    with pytest.raises(SlurmError, match="denied"):
        fleet.cancel(identifiers)
    assert len(bench.workers(fleet)) == 3  # Ray asks again; what has ended says so itself
    slurm.tell_the_truth("scancel")
    fleet.cancel(identifiers)
    assert bench.workers(fleet) == []


def test_without_scancel_nothing_is_thought_ended(bench: Bench, slurm: SlurmPrograms) -> None:
    fleet = bench.fleet(watched=True)
    identifiers = bench.launch(fleet)
    slurm.remove("scancel")
    with pytest.raises(SlurmMissing, match="scancel is not on PATH"):
        fleet.cancel(identifiers)
    assert len(bench.workers(fleet)) == 1


class TestSweep:
    def test_it_ends_when_slurm_lists_nothing_any_more(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        bench.launch(bench.fleet(), 3)
        assert bench.fleet().sweep(30)  # another process, as with `ray down`
        assert {job["state"] for job in slurm.jobs} == {"CANCELLED"}

    def test_jobs_that_complete_are_waited_for_and_not_cancelled_again(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        fleet = bench.fleet()
        bench.launch(fleet)
        fleet.cancel([node.node_id for node in fleet.nodes() if node.kind == HEAD])
        slurm.set(state="COMPLETING")
        before = len(slurm.calls("scancel"))
        bench.clock.on_sleep = [lambda: None] * 3 + [lambda: slurm.set(state="CANCELLED")]
        assert fleet.sweep(30)
        assert len(slurm.calls("scancel")) == before

    def test_a_job_that_will_not_go_is_reported(self, bench: Bench, slurm: SlurmPrograms) -> None:
        fleet = bench.fleet()
        bench.launch(fleet)
        slurm.answer("scancel")
        assert not fleet.sweep(0.2)

    def test_jobs_of_others_are_left_alone(self, bench: Bench, slurm: SlurmPrograms) -> None:
        slurm.add_job("ray:demo:cpu:ffffffffffff:worker:abc-0", "300")
        slurm.add_job("bash", "301")
        assert bench.fleet().sweep(30)
        assert [job["state"] for job in slurm.jobs] == ["CANCELLED", "RUNNING", "RUNNING"]


class TestAccounting:
    """`sacct` is asked for what squeue has forgotten; the fleet works without it."""

    def test_a_fleet_never_needs_it(self, bench: Bench, slurm: SlurmPrograms) -> None:
        slurm.remove("sacct")
        fleet = bench.fleet(watched=True)
        bench.launch(fleet)
        slurm.set(state="FAILED")
        bench.tick(fleet)
        assert len(fleet.nodes()) == 2 and len(fleet.nodes()) == 1  # told once, then gone

    def test_a_missing_sacct_is_named(self, bench: Bench, slurm: SlurmPrograms) -> None:
        slurm.remove("sacct")
        with pytest.raises(SlurmMissing, match="sacct is not on PATH of here"):
            bench.client.history(["101"])

    def test_a_site_without_accounting_is_told_apart(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        slurm.answer("sacct", stderr="Slurm accounting storage is disabled\n", rc=1)
        with pytest.raises(AccountingUnavailable, match="no accounting"):
            bench.client.history(["101"])
