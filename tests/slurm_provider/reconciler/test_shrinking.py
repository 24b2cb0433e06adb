"""Nodes that nobody needs go, and nothing of them stays."""

from __future__ import annotations

import pytest

from slurm_provider.slurm import JobState, SlurmRefused, SlurmUnavailable
from tests.slurm_provider.reconciler.head import HAS_PENDING_TIMEOUT, HeadNode
from tests.slurm_provider.reconciler.slurm_in_memory import raising


def workers_listed(head: HeadNode) -> list[str]:
    return [identifier for identifier in head.listed if identifier != "headlaunch-0"]


@pytest.mark.skipif(not HAS_PENDING_TIMEOUT, reason="this Ray never withdraws pending nodes")
class TestDemandThatIsGone:
    def test_waiting_jobs_are_withdrawn(self, head: HeadNode) -> None:
        head.demand(5)
        head.tick(10)
        head.demand(0)
        head.tick(100)
        assert head.slurm.workers() == [] and workers_listed(head) == []
        assert len(head.slurm.cancelled) == 5

    def test_they_are_kept_while_the_demand_may_come_back(self, head: HeadNode) -> None:
        head.demand(5)
        head.tick(10)
        head.demand(0)
        head.tick(30)
        head.demand(5)
        head.tick(100)
        assert len(head.slurm.submissions) == 1 and head.slurm.cancelled == []

    def test_held_nodes_go_without_a_command_of_slurms(self, head: HeadNode) -> None:
        head.slurm.answer_submit = raising(SlurmRefused("no"))
        head.demand(5)
        head.tick(10)
        assert len(workers_listed(head)) == 5
        head.demand(0)
        head.tick(100)
        assert workers_listed(head) == [] and head.slurm.cancelled == []
        assert len(head.slurm.submissions) == 1


class TestTerminate:
    def test_unknown_and_finished_nodes_are_fine(self, head: HeadNode) -> None:
        head.demand(1)
        head.tick(3)
        (identifier,) = workers_listed(head)
        (job,) = head.slurm.workers()
        head.slurm.set_state(job.job_id, JobState.COMPLETED)
        head.look()
        head.terminate(identifier, "nobody-0", "nobody")
        head.terminate(identifier)
        assert head.slurm.cancelled == []

    def test_many_nodes_are_one_command(self, head: HeadNode) -> None:
        head.demand(50)
        head.tick(3)
        head.demand(0)
        before = head.slurm.commands
        head.terminate(*workers_listed(head))
        assert head.slurm.commands == before + 1 and len(head.slurm.cancelled) == 50
        assert workers_listed(head) == []

    def test_a_held_node_never_reaches_slurm(self, head: HeadNode) -> None:
        head.slurm.answer_submit = raising(SlurmRefused("no"))
        head.demand(2)
        head.tick(10)
        head.demand(0)
        head.terminate(*workers_listed(head))
        head.slurm.answer_submit = lambda submission: None
        head.store.ask_resume()
        head.tick(100)
        assert len(head.slurm.submissions) == 1
        assert head.slurm.workers() == [] and head.slurm.cancelled == []

    def test_a_failing_scancel_is_repeated_by_ray(self, head: HeadNode) -> None:
        head.demand(2)
        head.tick(3)
        identifiers = [head.join(job) for job in head.slurm.workers()]
        head.demand(0)
        head.tick(3)
        head.slurm.answer_cancel = raising(SlurmUnavailable("scancel: no answer"))
        for identifier in identifiers:
            head.raylet_dies(identifier)  # idle: Ray drained it, and ends the node next
        head.tick(5)
        assert len(workers_listed(head)) == 2 and len(head.slurm.workers()) == 2
        head.slurm.answer_cancel = lambda: None
        head.tick(5)
        assert workers_listed(head) == [] and head.slurm.workers() == []


class TestClosing:
    """`ray down` has begun while the autoscaler still runs."""

    def test_nothing_new_is_launched(self, head: HeadNode) -> None:
        head.store.close()
        head.demand(3)
        head.tick(30)
        assert head.slurm.submissions == []
        assert set(head.launch_errors) == {"cluster 'demo' is being taken down"}

    def test_what_was_held_stays_held(self, head: HeadNode) -> None:
        head.slurm.answer_submit = raising(SlurmUnavailable("no answer"))
        head.demand(3)
        head.tick(3)
        head.store.close()
        head.slurm.answer_submit = lambda submission: None
        head.tick(300)
        assert len(head.slurm.submissions) == 1 and head.slurm.workers() == []
