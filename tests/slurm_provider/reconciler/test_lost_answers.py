"""A launch is submitted once, whatever becomes of sbatch's answer."""

from __future__ import annotations

from slurm_provider.fleet.ledger import UNSURE_KEPT_S
from slurm_provider.slurm import JobState
from tests.slurm_provider.reconciler.head import HeadNode, node_of
from tests.slurm_provider.reconciler.slurm_in_memory import NO_ANSWER, SILENCE, raising


def lose_the_answer(head: HeadNode, count: int = 2) -> None:
    """Demand, and an sbatch that times out. Whether it is carried out is for the test to say."""
    head.slurm.answer_submit = raising(NO_ANSWER)
    head.demand(count)
    head.tick(2)
    head.slurm.answer_submit = lambda submission: None
    assert len(head.slurm.submissions) == 1 and head.slurm.workers() == []


def carry_out(head: HeadNode, number: int = 0) -> None:
    head.slurm.carry_out(head.slurm.submissions[number])


def test_ray_does_not_hear_of_it(head: HeadNode) -> None:
    lose_the_answer(head)
    assert head.launch_errors == []
    assert len(head.listed) == 3 and len(head.instances("ALLOCATED")) == 2


def test_a_job_that_appears_late_is_taken_up(head: HeadNode) -> None:
    lose_the_answer(head)
    head.tick(8)
    carry_out(head)
    head.tick(60, every_s=10)
    assert len(head.slurm.submissions) == 1 and head.slurm.cancelled == []
    nodes = [node_of(job) for job in head.slurm.workers()]
    assert len(nodes) == 2 and head.listed == sorted([*nodes, "headlaunch-0"])


def test_one_that_never_appears_is_submitted_again(head: HeadNode) -> None:
    lose_the_answer(head)
    head.tick(10)
    assert len(head.slurm.submissions) == 1  # too early to tell
    head.tick(30)
    assert len(head.slurm.submissions) == 2
    assert len(head.slurm.workers()) == 2


def test_silence_does_not_prove_that_it_never_arrived(head: HeadNode) -> None:
    lose_the_answer(head)
    head.slurm.answer_queue = raising(SILENCE)
    head.tick(60, every_s=10)
    head.slurm.answer_queue = lambda: None
    head.tick(8)  # the controller is back and works off what waits in its socket
    assert len(head.slurm.submissions) == 1
    carry_out(head)
    head.tick(60, every_s=10)
    assert len(head.slurm.submissions) == 1 and len(head.slurm.workers()) == 2


def test_jobs_that_came_twice_are_cancelled_once(head: HeadNode) -> None:
    lose_the_answer(head)
    head.tick(40)
    assert len(head.slurm.submissions) == 2
    carry_out(head)  # the first one, after all
    head.tick(60)
    assert len(head.slurm.workers()) == 2 and len(head.slurm.cancelled) == 2
    assert len(head.listed) == 3 and len(head.slurm.submissions) == 2


def test_of_two_jobs_of_a_node_the_running_one_is_kept(head: HeadNode) -> None:
    lose_the_answer(head, count=1)
    head.tick(40)
    (second,) = head.slurm.workers()
    head.join(second)
    head.demand(0)
    carry_out(head)
    head.tick(60)
    assert [job.job_id for job in head.slurm.workers()] == [second.job_id]
    assert len(head.instances("RAY_RUNNING")) == 2


def test_a_controller_that_never_answers_is_not_stormed(head: HeadNode) -> None:
    head.slurm.answer_submit = raising(NO_ANSWER)
    head.demand(2)
    head.tick(360, every_s=10)
    assert len(head.slurm.submissions) <= 25
    assert head.launch_errors == [] and len(head.listed) == 3


def test_a_node_withdrawn_in_doubt_is_cancelled_when_it_turns_up(head: HeadNode) -> None:
    lose_the_answer(head)
    head.demand(0)
    workers = [i for i in head.listed if i != "headlaunch-0"]
    head.terminate(*workers)
    assert head.listed == ["headlaunch-0"]
    head.tick(900)
    carry_out(head)
    head.tick(60)
    assert head.slurm.workers() == [] and len(head.slurm.cancelled) == 2
    assert head.listed == ["headlaunch-0"]


def test_the_doubt_is_forgotten_one_day(head: HeadNode) -> None:
    lose_the_answer(head)
    head.demand(0)
    head.terminate(*[i for i in head.listed if i != "headlaunch-0"])
    head.tick(int(UNSURE_KEPT_S / 30) + 10, every_s=31)
    assert list(head.fleet._state.ledger.nodes) == ["headlaunch-0"]


def test_a_listing_during_an_sbatch_confuses_nobody(head: HeadNode) -> None:
    def look_before_and_after(submission: object) -> None:
        head.look()
        head.slurm.answer_submit = lambda _: None
        carry_out(head)
        head.look()  # listed before sbatch has answered
        head.slurm.submissions.clear()
        raise NO_ANSWER

    head.slurm.answer_submit = look_before_and_after
    head.demand(2)
    head.tick(120)
    assert head.slurm.submissions == [] and len(head.slurm.workers(JobState.PENDING)) == 2
    assert len(head.listed) == 3


def test_nodes_terminated_during_their_sbatch_leave_no_job(head: HeadNode) -> None:
    def terminate_meanwhile(submission: object) -> None:
        head.slurm.answer_submit = lambda _: None
        head.demand(0)
        head.look()
        head.terminate(*[i for i in head.listed if i != "headlaunch-0"])
        head.look()

    head.slurm.answer_submit = terminate_meanwhile
    head.demand(2)
    head.tick(60)
    assert head.slurm.workers() == [] and len(head.slurm.submissions) == 1
    assert head.listed == ["headlaunch-0"]
