"""Slurm is the database: a monitor that starts again finds its nodes there."""

from __future__ import annotations

from slurm_provider.slurm import JobState
from tests.slurm_provider.reconciler.head import HeadNode


def test_running_and_waiting_nodes_are_adopted(head: HeadNode) -> None:
    head.demand(5)
    head.tick(3)
    for job in head.slurm.workers()[:3]:
        head.join(job)
    head.demand(2)
    head.tick(3)
    before = head.listed
    head.start_monitor()
    head.tick(120)
    assert head.listed == before
    assert len(head.instances("RAY_RUNNING")) == 4 and len(head.instances("ALLOCATED")) == 2
    assert len(head.slurm.submissions) == 1 and head.slurm.cancelled == []


def test_adopted_nodes_are_ended_like_others(head: HeadNode) -> None:
    head.demand(2)
    head.tick(3)
    identifiers = [head.join(job) for job in head.slurm.workers()]
    head.demand(0)
    head.start_monitor()
    head.tick(3)
    for identifier in identifiers:
        head.raylet_dies(identifier)
    head.tick(5)
    assert head.slurm.workers() == [] and head.listed == ["headlaunch-0"]


def test_nodes_that_ended_before_are_no_failures_of_now(head: HeadNode) -> None:
    head.demand(3)
    head.tick(3)
    for job in head.slurm.workers():
        head.slurm.set_state(job.job_id, JobState.CANCELLED)
    head.start_monitor()
    head.tick(10)
    assert len(head.slurm.submissions) == 2 and len(head.slurm.workers()) == 3
    state = head.store.autoscaler_state()
    assert state is not None and state["types"] == {}


def test_dead_raylets_of_forgotten_jobs_do_no_harm(head: HeadNode) -> None:
    head.demand(2)
    head.tick(3)
    for job in head.slurm.workers():
        head.raylet_dies(head.join(job))
        head.slurm.set_state(job.job_id, JobState.COMPLETED)
    head.slurm.forget_finished()
    head.demand(1)
    head.start_monitor()
    head.tick(30)
    assert len(head.slurm.workers(JobState.PENDING)) == 1
    assert len(head.listed) == 2


def test_a_head_whose_ray_is_stopped_to_be_started_anew_keeps_its_job(head: HeadNode) -> None:
    head.demand(1)
    head.tick(3)
    (worker,) = head.slurm.workers()
    head.join(worker)
    head.raylet_dies("headlaunch-0")
    head.tick(700)  # longer than Ray waits before it tries to end a node once more
    assert head.instances("TERMINATING", "TERMINATION_FAILED")  # Ray did mean to
    assert head.slurm.cancelled == []
    head.start_monitor()
    head.tick(5)
    assert "headlaunch-0" in head.listed and head.slurm.cancelled == []
