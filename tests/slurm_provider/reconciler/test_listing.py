"""Unknown is not gone: what a bad answer of squeue's does not do."""

from __future__ import annotations

from slurm_provider.slurm import JobState
from tests.slurm_provider.reconciler.head import HeadNode
from tests.slurm_provider.reconciler.slurm_in_memory import SILENCE, raising


def with_workers(head: HeadNode, count: int = 3) -> None:
    head.demand(count)
    head.tick(3)
    for job in head.slurm.workers():
        head.join(job)
    head.demand(0)
    head.tick(3)
    assert len(head.instances("RAY_RUNNING")) == count + 1


def assert_untouched(head: HeadNode, count: int = 3) -> None:
    assert len(head.instances("RAY_RUNNING")) == count + 1
    assert len(head.slurm.workers(JobState.RUNNING)) == count
    assert len(head.slurm.submissions) == 1 and head.slurm.cancelled == []


def test_a_listing_without_the_head_is_not_believed(head: HeadNode) -> None:
    with_workers(head)
    head.slurm.hidden = set(head.slurm.jobs)  # an empty queue, and no error
    head.look()
    assert len(head.listed) == 4
    head.tick(3)
    head.slurm.hidden = set()
    head.tick(720, every_s=10)  # longer than any time-out of Ray's that kills a stranger
    assert_untouched(head)


def test_a_monitor_that_never_saw_the_head_does_not_believe_it_either(head: HeadNode) -> None:
    with_workers(head)
    head.slurm.hidden = set(head.slurm.jobs)
    head.start_monitor()
    head.tick(10)
    assert head.skipped_ticks == 10
    head.slurm.hidden = set()
    head.tick(60)
    assert_untouched(head)


def test_a_worker_that_is_missing_once_loses_nothing(head: HeadNode) -> None:
    with_workers(head)
    missing = head.slurm.workers()[0].job_id
    for _ in range(20):
        head.slurm.hidden = {missing}
        head.look()
        head.tick(5)
        head.slurm.hidden = set()
        head.look()
        head.tick(5)
    assert_untouched(head)


def test_a_waiting_job_that_is_missing_once_is_not_submitted_again(head: HeadNode) -> None:
    head.demand(2)
    head.tick(5)
    head.slurm.hidden = {head.slurm.workers()[0].job_id}
    head.look()
    head.tick(4)
    head.slurm.hidden = set()
    head.tick(60)
    assert len(head.slurm.submissions) == 1 and len(head.slurm.workers()) == 2


def test_a_short_silence_changes_nothing(head: HeadNode) -> None:
    with_workers(head)
    head.slurm.answer_queue = raising(SILENCE)
    head.tick(60)
    assert head.skipped_ticks == 0 and len(head.listed) == 4
    head.slurm.answer_queue = lambda: None
    head.tick(60)
    assert_untouched(head)


def test_during_a_long_silence_ray_decides_nothing(head: HeadNode) -> None:
    with_workers(head)
    head.slurm.answer_queue = raising(SILENCE)
    head.tick(130)
    skipped = head.skipped_ticks
    head.demand(5)
    head.tick(300)
    assert head.skipped_ticks == skipped + 300
    assert len(head.slurm.submissions) == 1


def test_after_a_silence_nothing_was_killed_or_launched_twice(head: HeadNode) -> None:
    with_workers(head)
    head.demand(2)
    head.tick(3)
    assert len(head.slurm.submissions) == 2
    head.slurm.answer_queue = raising(SILENCE)
    head.tick(360, every_s=10)
    head.slurm.answer_queue = lambda: None
    head.tick(100, every_s=5)
    assert len(head.slurm.submissions) == 2 and head.slurm.cancelled == []
    assert len(head.slurm.workers(JobState.RUNNING)) == 3
    assert len(head.slurm.workers(JobState.PENDING)) == 2
    assert len(head.listed) == 6


def test_a_failing_first_listing_only_delays(head: HeadNode) -> None:
    with_workers(head)
    head.slurm.answer_queue = raising(SILENCE)
    head.start_monitor()
    head.tick(30)
    assert head.skipped_ticks == 30
    head.slurm.answer_queue = lambda: None
    head.tick(60)
    assert_untouched(head)


def test_a_node_that_ended_is_replaced(head: HeadNode) -> None:
    with_workers(head)
    job = head.slurm.workers()[0]
    head.slurm.set_state(job.job_id, JobState.NODE_FAIL)
    head.raylet_dies(next(i for i in head.listed if i.endswith("-0") and i != "headlaunch-0"))
    head.demand(1)  # what ran there is to run again
    head.tick(40)
    assert len(head.slurm.submissions) == 2
    assert len(head.slurm.workers(JobState.PENDING)) == 1
    assert len(head.listed) == 4
    assert head.slurm.cancelled == []


def test_a_job_that_slurm_forgot_is_replaced_in_the_end(head: HeadNode) -> None:
    head.demand(2)
    head.tick(5)
    job = head.slurm.workers()[0]
    del head.slurm.jobs[job.job_id]
    head.tick(120)
    assert len(head.slurm.submissions) == 2
    assert len(head.slurm.workers()) == 2
