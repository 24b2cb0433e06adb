"""What Slurm or a broken environment refuses is not asked for without limit."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from slurm_provider.fleet.brake import BACK_OFF_S
from slurm_provider.fleet.hopeless import NEVER_GRACE_S
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.slurm import Job, JobState, SlurmLimited, SlurmRefused, Submission
from tests.slurm_provider.reconciler.head import HeadNode, node_of
from tests.slurm_provider.reconciler.slurm_in_memory import SILENCE, raising

WORDS = "sbatch (here): Batch job submission failed: Invalid partition name specified"


def held_reasons(head: HeadNode) -> set[str]:
    state = head.store.autoscaler_state()
    assert state is not None
    return {held["reason"] for held in state["held"]}


class TestRefusedForGood:
    def test_ray_hears_slurms_words_once_and_sbatch_runs_once(self, head: HeadNode) -> None:
        head.slurm.answer_submit = raising(SlurmRefused(WORDS))
        head.demand(10)
        head.tick(100)
        assert len(head.slurm.submissions) == 1
        assert head.launch_errors == [WORDS]
        assert len(head.instances("ALLOCATION_FAILED")) == 10
        assert len(head.instances()) == 21  # the head, one failed launch, one that is held

    def test_the_type_is_paused_and_says_why(self, head: HeadNode) -> None:
        head.slurm.answer_submit = raising(SlurmRefused(WORDS))
        head.demand(3)
        head.tick(20)
        assert held_reasons(head) == {f"node type 'cpu' is paused: {WORDS}"}
        state = head.store.autoscaler_state()
        assert state is not None and state["types"]["cpu"]["paused"]

    def test_resume_asks_again_with_the_configuration_of_now(self, head: HeadNode) -> None:
        head.slurm.answer_submit = raising(SlurmRefused(WORDS))
        head.demand(3)
        head.tick(20)
        head.slurm.answer_submit = lambda submission: None
        head.config["available_node_types"]["cpu"]["node_config"]["partition"] = "long"
        head.write_config()
        head.tick(20)
        assert len(head.slurm.submissions) == 1  # nobody said that it was mended
        head.store.ask_resume()
        head.tick(20)
        assert [s.options["partition"] for s in head.slurm.submissions] == ["compute", "long"]
        assert len(head.slurm.workers()) == 3 and len(head.listed) == 4

    def test_nodes_that_run_already_go_on(self, head: HeadNode) -> None:
        head.demand(1)
        head.tick(3)
        (job,) = head.slurm.workers()
        head.join(job)
        head.slurm.answer_submit = raising(SlurmRefused(WORDS))
        head.demand(2)
        head.tick(60, every_s=10)
        assert len(head.slurm.submissions) == 2
        assert job.job_id not in head.slurm.cancelled
        assert len(head.instances("RAY_RUNNING")) == 2


class TestTakenButNeverRun:
    """A limit that Slurm does not check at submission shows in the queue only."""

    REASON = "QOSMaxCpuPerJobLimit"

    def say(self, head: HeadNode, reason: str) -> list[Job]:
        jobs = head.slurm.workers(JobState.PENDING)
        for job in jobs:
            head.slurm.set_state(job.job_id, JobState.PENDING, reason)
        return jobs

    def test_after_a_grace_the_jobs_are_cancelled_and_ray_hears_why(self, head: HeadNode) -> None:
        head.demand(3)
        head.tick(3)
        self.say(head, self.REASON)
        head.tick(int(NEVER_GRACE_S / 10) - 3, every_s=10)
        assert head.slurm.cancelled == []
        head.tick(60, every_s=10)
        assert len(head.slurm.cancelled) == 3 and len(head.slurm.submissions) == 1
        (error,) = head.launch_errors
        assert "can never run: it asks for more CPUs than the QOS allows a job" in error
        assert self.REASON in error
        assert len(head.instances("ALLOCATION_FAILED")) == 3
        (reason,) = held_reasons(head)
        assert reason.startswith("node type 'cpu' is paused: job ") and self.REASON in reason

    def test_after_resume_it_is_tried_again(self, head: HeadNode) -> None:
        head.demand(1)
        head.tick(3)
        self.say(head, self.REASON)
        head.tick(60, every_s=10)
        head.store.ask_resume()
        head.tick(10)
        assert len(head.slurm.submissions) == 2 and len(head.slurm.workers()) == 1

    @pytest.mark.parametrize("reason", ["Priority", "QOSMaxJobsPerUserLimit", "JobHeldUser"])
    def test_what_may_pass_or_be_released_is_waited_for(self, head: HeadNode, reason: str) -> None:
        head.demand(2)
        head.tick(3)
        self.say(head, reason)
        head.tick(24, every_s=3600)
        assert head.slurm.cancelled == [] and len(head.slurm.submissions) == 1

    def test_a_reason_that_passes_within_the_grace_is_forgotten(self, head: HeadNode) -> None:
        head.demand(1)
        head.tick(3)
        for _ in range(4):
            self.say(head, self.REASON)
            head.tick(20, every_s=10)
            self.say(head, "Priority")
            head.tick(4, every_s=10)
        assert head.slurm.cancelled == []

    def test_a_scancel_without_an_answer_is_repeated(self, head: HeadNode) -> None:
        head.demand(1)
        head.tick(3)
        (job,) = self.say(head, self.REASON)
        head.slurm.answer_cancel = raising(SILENCE)
        head.tick(60, every_s=10)
        head.slurm.answer_cancel = lambda: None
        head.tick(10, every_s=10)
        assert set(head.slurm.cancelled) == {job.job_id} and head.slurm.workers() == []

    def test_nodes_at_work_go_on(self, head: HeadNode) -> None:
        head.demand(2)
        head.tick(3)
        working, waiting = head.slurm.workers()
        head.join(working)
        head.demand(1)
        self.say(head, self.REASON)
        head.tick(60, every_s=10)
        assert head.slurm.cancelled == [waiting.job_id]
        assert len(head.instances("RAY_RUNNING")) == 2


class TestRefusedForNow:
    FULL = SlurmLimited("sbatch (here): AssocMaxSubmitJobLimit. It is take it later")

    def test_it_is_tried_again_with_growing_waits_and_never_paused(self, head: HeadNode) -> None:
        head.slurm.answer_submit = raising(self.FULL)
        head.demand(2)
        head.tick(360, every_s=10)
        assert 8 <= len(head.slurm.submissions) <= 25
        assert head.launch_errors == []
        assert held_reasons(head) == {str(self.FULL)}

    def test_of_more_nodes_than_a_quota_takes_those_go_that_it_takes(self, head: HeadNode) -> None:
        def quota(submission: Submission) -> None:
            count = len(submission.array_tasks or [0])
            if count + len(head.slurm.workers()) > 49:
                raise self.FULL

        head.slurm.answer_submit = quota
        head.demand(60)
        head.tick(20, every_s=5)
        assert len(head.slurm.workers()) == 49 and len(head.listed) == 61
        assert held_reasons(head) == {str(self.FULL)}
        assert len(head.slurm.submissions) < 40
        head.demand(40)
        for job in head.slurm.workers()[:20]:
            node = head.join(job)
            head.slurm.set_state(job.job_id, JobState.COMPLETED)
            head.raylet_dies(node)
        head.tick(12, every_s=60)
        assert len(head.slurm.workers()) == 40 and held_reasons(head) == set()
        assert head.launch_errors == []

    def test_halving_takes_seconds_not_minutes(self, head: HeadNode) -> None:
        def quota(submission: Submission) -> None:
            if submission.array_tasks is not None or head.slurm.workers():
                raise self.FULL

        head.slurm.answer_submit = quota
        head.demand(64)
        head.tick(8, every_s=5)
        assert len(head.slurm.workers()) == 1 and len(head.slurm.submissions) < 10

    def test_it_goes_when_there_is_room_again(self, head: HeadNode) -> None:
        head.slurm.answer_submit = raising(self.FULL)
        head.demand(5)
        head.tick(120, every_s=5)
        head.slurm.answer_submit = lambda submission: None
        head.tick(80, every_s=5)
        assert len(head.slurm.workers()) == 5 and held_reasons(head) == set()


class TestBrokenEnvironment:
    """Jobs start and end at once."""

    @staticmethod
    def fail_at_once(head: HeadNode) -> None:
        head.slurm.starts_as = JobState.FAILED

    def test_a_day_of_it_costs_a_handful_of_jobs(self, head: HeadNode) -> None:
        self.fail_at_once(head)
        head.demand(5)
        head.tick(24 * 6, every_s=600)
        assert len(head.slurm.submissions) == 1 + len(BACK_OFF_S)
        # The first launch is whole; then one node at a time tries it out.
        assert len(head.slurm.jobs) - 1 == 5 + len(BACK_OFF_S)
        (reason,) = held_reasons(head)
        assert reason.startswith("node type 'cpu' is paused: ")

    def test_it_costs_no_more_when_ray_looks_every_second(self, head: HeadNode) -> None:
        self.fail_at_once(head)
        head.demand(3)
        head.tick(350)
        assert len(head.slurm.submissions) == 1 + len(BACK_OFF_S)
        assert len(head.instances()) < 20  # Ray never forgets a record

    def test_the_agents_reason_and_the_log_are_kept(self, head: HeadNode) -> None:
        self.fail_at_once(head)
        head.demand(1)
        head.tick(1)
        (job,) = (j for j in head.slurm.jobs.values() if j.state is JobState.FAILED)
        head.report(node_of(job), state="ended", reason="no `ray` on PATH")
        head.look()
        state = head.store.autoscaler_state()
        assert state is not None
        assert state["types"]["cpu"]["cause"] == "no `ray` on PATH"
        assert state["types"]["cpu"]["where"] == [head.store.paths.log(node_of(job))]

    def test_jobs_that_slurm_forgets_at_once_count_too(self, head: HeadNode) -> None:
        self.fail_at_once(head)
        head.demand(2)
        for _ in range(120):
            head.slurm.forget_finished()  # MinJobAge is shorter than our interval
            head.tick(1, every_s=5)
        assert len(head.slurm.submissions) == 1 + len(BACK_OFF_S)

    def test_after_resume_it_is_tried_again(self, head: HeadNode) -> None:
        self.fail_at_once(head)
        head.demand(3)
        head.tick(80, every_s=5)
        head.slurm.starts_as = JobState.PENDING
        head.store.ask_resume()
        head.tick(20)
        assert len(head.slurm.workers()) == 3

    def test_nodes_that_joined_before_it_broke_prove_nothing(self, head: HeadNode) -> None:
        head.demand(3)
        head.tick(3)
        for job in head.slurm.workers():
            head.join(job)
        head.demand(0)
        head.tick(3)
        self.fail_at_once(head)
        head.demand(2)
        head.tick(120, every_s=5)
        assert len(head.slurm.submissions) == 2 + len(BACK_OFF_S)

    def test_one_bad_host_among_good_ones_costs_one_job_and_little_time(
        self, head: HeadNode
    ) -> None:
        head.demand(4)
        head.tick(3)
        bad, *good = head.slurm.workers()
        head.slurm.set_state(bad.job_id, JobState.FAILED)
        head.tick(2)
        for job in good:
            head.join(job)
        head.demand(1)
        head.tick(10)
        assert len(head.slurm.submissions) == 2
        assert len(head.slurm.workers(JobState.PENDING)) == 1

    def test_ray_asks_again_at_once_for_a_node_that_failed_before_it_was_told_of_it(
        self, head: HeadNode
    ) -> None:
        self.fail_at_once(head)
        head.demand(1)
        head.tick(2)
        head.slurm.starts_as = JobState.PENDING
        head.tick(10)
        assert len(head.slurm.workers(JobState.PENDING)) == 1

    def test_when_the_one_that_tries_it_out_joins_the_others_follow(self, head: HeadNode) -> None:
        head.demand(6)
        head.tick(3)
        for job in head.slurm.workers():
            head.slurm.set_state(job.job_id, JobState.FAILED)
        head.tick(15)
        waiting: list[Job] = head.slurm.workers(JobState.PENDING)
        assert len(waiting) == 1 and len(head.listed) == 7
        head.tick(60, every_s=10)
        assert head.slurm.workers(JobState.PENDING) == waiting
        head.join(waiting[0])
        head.demand(5)
        head.tick(15)
        assert len(head.slurm.workers(JobState.PENDING)) == 5

    def test_what_was_cancelled_on_purpose_is_no_failure(self, head: HeadNode) -> None:
        def cancelled_and_listed_before_scancel_answers() -> None:
            head.slurm.answer_cancel = lambda: None
            head.slurm.cancel([job.job_id for job in head.slurm.workers()])
            head.look()

        head.demand(2)
        head.tick(5)
        head.demand(0)
        head.slurm.answer_cancel = cancelled_and_listed_before_scancel_answers
        head.terminate(*[i for i in head.listed if i != "headlaunch-0"])
        head.tick(5)
        state = head.store.autoscaler_state()
        assert state == {"held": [], "types": {}}


class TestTheSharedFileSystem:
    """It may fail while Slurm does not."""

    def test_nodes_whose_launch_cannot_be_written_down_are_held_with_the_cause(
        self, head: HeadNode
    ) -> None:
        launches = head.store.paths.launches
        head.store.transport.remove_tree(launches)
        head.store.transport.write_file(launches, b"a file where the folder should be")
        head.demand(3)
        head.tick(5)
        (reason,) = held_reasons(head)
        assert f"{head.store.paths.root} cannot be written (File exists)" in reason
        assert head.slurm.submissions == [] and len(head.listed) == 4
        head.store.transport.remove_tree(launches)
        head.tick(30)
        assert len(head.slurm.submissions) == 1 and len(head.slurm.workers()) == 3

    def test_a_full_folder_is_tried_less_and_less_often(
        self, head: HeadNode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempts = []

        def write(store: ClusterStore, *args: Any) -> None:
            attempts.append(head.clock())
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(ClusterStore, "write_launch", write)
        head.demand(3)
        head.tick(100)
        assert 3 <= len(attempts) <= 6 and head.launch_errors == []

    def test_a_state_that_cannot_be_published_launches_nothing_twice(self, head: HeadNode) -> None:
        path = head.store.paths.autoscaler
        head.store.transport.remove_tree(path)
        head.store.transport.make_dir(path)
        head.demand(3)
        head.tick(30)
        assert len(head.slurm.submissions) == 1 and len(head.slurm.workers()) == 3
        assert head.surprises == []
