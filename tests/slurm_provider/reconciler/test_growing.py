"""Demand becomes jobs, and jobs become nodes."""

from __future__ import annotations

from collections.abc import Callable

from slurm_provider.slurm import JobState
from tests.slurm_provider.reconciler.head import HeadNode

HOUR_S = 3600.0


def array_sizes(head: HeadNode) -> list[int | None]:
    """Of each sbatch; None for a single job."""
    return [None if s.array_tasks is None else len(s.array_tasks) for s in head.slurm.submissions]


def test_a_demand_for_many_nodes_is_one_array(head: HeadNode) -> None:
    head.demand(50)
    head.tick(3)
    assert array_sizes(head) == [50]
    assert len(head.instances("ALLOCATED")) == 50


def test_a_demand_for_one_node_is_one_plain_job(head: HeadNode) -> None:
    head.demand(1)
    head.tick(10)
    assert array_sizes(head) == [None]


def test_arrays_stay_below_the_sites_limit(head: HeadNode) -> None:
    head.slurm.max_array_size = 11
    head.demand(25)
    head.tick(10)
    assert array_sizes(head) == [10, 10, 5]
    assert len(head.instances("ALLOCATED")) == 25


def test_a_site_without_arrays_gets_single_jobs(head: HeadNode) -> None:
    head.slurm.max_array_size = 0
    head.demand(3)
    head.tick(10)
    assert array_sizes(head) == [None, None, None]
    assert len(head.instances("ALLOCATED")) == 3


def test_nodes_that_join_are_used_and_no_more_are_launched(head: HeadNode) -> None:
    head.demand(2)
    head.tick(3)
    for job in head.slurm.workers():
        head.join(job)
    head.demand(0)
    head.tick(60)
    assert len(head.instances("RAY_RUNNING")) == 3  # with the head
    assert array_sizes(head) == [2] and head.slurm.cancelled == []


def test_more_demand_while_jobs_wait_launches_only_the_difference(head: HeadNode) -> None:
    head.demand(2)
    head.tick(5)
    head.demand(5)
    head.tick(5)
    assert array_sizes(head) == [2, 3]


def test_jobs_may_wait_for_days(head: HeadNode) -> None:
    head.demand(3)
    head.tick(5)
    waiting = head.slurm.workers(JobState.PENDING)
    head.tick(10 * 24, every_s=HOUR_S)
    assert head.slurm.workers(JobState.PENDING) == waiting
    assert array_sizes(head) == [3] and head.slurm.cancelled == []


def test_a_job_that_is_suspended_or_in_an_unknown_state_is_not_replaced(head: HeadNode) -> None:
    head.demand(1)
    head.tick(3)
    (job,) = head.slurm.workers()
    head.join(job)
    head.demand(0)
    for state in (JobState.SUSPENDED, JobState.STOPPED, JobState.UNKNOWN, JobState.RUNNING):
        head.slurm.set_state(job.job_id, state)
        head.tick(60)
    assert array_sizes(head) == [None] and head.slurm.cancelled == []
    assert len(head.instances("RAY_RUNNING")) == 2


def test_the_queue_is_asked_seldom_while_all_is_quiet(head: HeadNode) -> None:
    head.tick(40)
    before = head.slurm.commands
    head.tick(600)
    assert head.slurm.commands - before <= 20


class TestMaxPending:
    """``provider.max_pending`` caps the queue."""

    def test_no_more_jobs_than_allowed_wait_at_a_time(
        self, make_head: Callable[..., HeadNode]
    ) -> None:
        head = make_head(max_pending=4)
        head.demand(10)
        seen = 0
        for _ in range(10):
            head.tick(10)
            waiting = head.slurm.workers(JobState.PENDING)
            assert len(waiting) <= 4
            if not waiting:
                break
            head.join(waiting[0])
            seen += 1
            head.demand(10 - seen)
        assert seen == 10

    def test_the_first_go_at_once(self, make_head: Callable[..., HeadNode]) -> None:
        head = make_head(max_pending=4)
        head.demand(10)
        head.tick(1)
        head.tick(1)
        assert array_sizes(head) == [4]

    def test_what_waits_is_listed_with_its_reason(self, make_head: Callable[..., HeadNode]) -> None:
        head = make_head(max_pending=4)
        head.demand(10)
        head.tick(10)
        assert len(head.listed) == 11
        state = head.store.autoscaler_state()
        assert state is not None
        assert [held["reason"] for held in state["held"]] == [
            "provider.max_pending: 4 jobs wait already"
        ] * 6

    def test_it_holds_for_a_type_that_is_tried_out_too(
        self, make_head: Callable[..., HeadNode]
    ) -> None:
        head = make_head(max_pending=1)
        head.demand(5)
        head.tick(10)
        (job,) = head.slurm.workers()
        head.slurm.set_state(job.job_id, JobState.FAILED)
        for _ in range(300):
            head.tick(1)
            assert len(head.slurm.workers(JobState.PENDING)) <= 1
        assert len(head.slurm.workers(JobState.PENDING)) == 1
