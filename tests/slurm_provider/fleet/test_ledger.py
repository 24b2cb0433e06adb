"""What is concluded from Slurm's listings: unknown is not gone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_provider.fleet.identity import HEAD, WORKER, JobIdentity
from slurm_provider.fleet.ledger import (
    MISSES_UNTIL_GONE,
    MISSING_FOR_S,
    Ledger,
    Node,
    Observation,
)
from slurm_provider.slurm import Job, JobState

UUID = "0123456789ab"
LAUNCH = "abcdefghij"


def identity(
    launch: str = LAUNCH, index: int | None = None, uuid: str = UUID, kind: str = WORKER
) -> JobIdentity:
    return JobIdentity("demo", "cpu", uuid, kind, launch, index)


def job(
    job_id: str = "7",
    state: JobState = JobState.RUNNING,
    *,
    index: int | None = 0,
    launch: str = LAUNCH,
    uuid: str = UUID,
    name: str | None = None,
    reason: str = "None",
) -> Job:
    return Job(
        job_id=job_id,
        raw_id=job_id.partition("_")[0],
        state=state,
        reason=reason,
        partition="compute",
        nodelist="n1" if state is JobState.RUNNING else "",
        submit_time=1000.0,
        start_time=None,
        end_time=None,
        time_limit_s=3600,
        cpus=2,
        name=identity(launch, index, uuid).job_name if name is None else name,
    )


def task(index: int, state: JobState = JobState.RUNNING, array_id: str = "7") -> Job:
    return job(f"{array_id}_{index}", state, index=None)


class Slurm:
    """A ledger with a clock; each ``list`` is a complete answer, ``apart_s`` after the last."""

    def __init__(self) -> None:
        self.ledger = Ledger(UUID)
        self.now = 1000.0

    def submit(self, count: int = 1, launch: str = LAUNCH, job_id: str = "7") -> list[Node]:
        nodes = [self.ledger.add(identity(launch), index) for index in range(count)]
        ids = [job_id] if count == 1 else [f"{job_id}_{index}" for index in range(count)]
        self.ledger.submitted(nodes, ids, self.now)
        return nodes

    def list(self, *jobs: Job, apart_s: float = 20.0) -> Observation:
        self.now += apart_s
        return self.ledger.observe(jobs, self.now - 0.1, self.now)


@pytest.fixture
def slurm() -> Slurm:
    return Slurm()


class TestLife:
    """From submission to the end, as Slurm tells it."""

    def test_a_submitted_node_is_pending_before_slurm_lists_it(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        assert (node.is_live, node.is_pending, node.is_running) == (True, True, False)
        assert node.slurm_id == "7"

    def test_a_held_node_is_live_but_not_in_the_queue(self, slurm: Slurm) -> None:
        node = slurm.ledger.add(identity(), 0)
        node.held = "node type 'cpu' is paused"
        assert (node.is_live, node.is_pending, node.is_running) == (True, False, False)
        slurm.ledger.submitted([node], ["7"], slurm.now)
        assert node.held is None and node.is_pending

    @pytest.mark.parametrize(
        ("state", "live", "pending", "running", "remaining"),
        [
            (JobState.PENDING, True, True, False, True),
            (JobState.CONFIGURING, True, False, False, True),
            (JobState.RUNNING, True, False, True, True),
            (JobState.SUSPENDED, True, False, False, True),
            (JobState.UNKNOWN, True, False, False, True),
            (JobState.COMPLETING, False, False, False, True),
            (JobState.COMPLETED, False, False, False, False),
            (JobState.PREEMPTED, False, False, False, False),
            (JobState.NODE_FAIL, False, False, False, False),
            (JobState.TIMEOUT, False, False, False, False),
        ],
    )
    def test_each_state_means_the_right_thing(
        self, slurm: Slurm, state: JobState, live: bool, pending: bool, running: bool,
        remaining: bool,
    ) -> None:  # fmt: skip
        (node,) = slurm.submit()
        slurm.list(job(state=state))
        assert (node.is_live, node.is_pending, node.is_running) == (live, pending, running)
        assert (node in slurm.ledger.live()) is live
        assert (node in slurm.ledger.remaining()) is remaining

    def test_a_completing_job_has_not_ended_until_slurm_says_so(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        assert slurm.list(job(state=JobState.COMPLETING)).ended == ()
        assert slurm.list(job(state=JobState.COMPLETED)).ended == (node,)

    def test_an_end_is_reported_once_and_in_words(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        failed = job(state=JobState.NODE_FAIL, reason="NodeDown")
        assert slurm.list(failed).ended == (node,)
        assert node.ended == "node fail (NodeDown)"
        assert slurm.list(failed).ended == ()

    def test_a_cancelled_node_is_not_live_but_remains_until_it_is_gone(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        slurm.list(job())
        node.cancelled_at = 1.0
        assert slurm.ledger.live() == [] and slurm.ledger.remaining() == [node]
        slurm.list(job(state=JobState.COMPLETING))
        assert slurm.ledger.remaining() == [node]
        assert slurm.list(job(state=JobState.CANCELLED)).ended == (node,)
        assert slurm.ledger.remaining() == []


class TestAbsence:
    """A listing without a node."""

    def test_three_misses_over_thirty_seconds_mean_gone(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        slurm.list(job())
        assert slurm.list().ended == ()
        assert slurm.list().ended == () and node.is_live
        assert slurm.list().ended == (node,)
        assert not node.is_live and node.ended == "no longer known to Slurm"

    def test_many_misses_in_a_short_time_do_not(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        slurm.list(job())
        for _ in range(20):
            assert slurm.list(apart_s=1.0).ended == ()
        assert node.is_live

    def test_a_long_time_with_few_misses_does_not(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        slurm.list(job())
        for _ in range(MISSES_UNTIL_GONE - 1):
            assert slurm.list(apart_s=10 * MISSING_FOR_S).ended == ()
        assert node.is_live

    def test_one_sight_starts_the_count_again(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        for _ in range(5):
            slurm.list(job())
            slurm.list()
            assert slurm.list().ended == ()
        assert node.is_live

    def test_an_answer_to_an_older_question_says_nothing_about_a_new_node(
        self, slurm: Slurm
    ) -> None:
        (node,) = slurm.submit()
        for late_s in (5, 50, 500, 5000):
            slurm.ledger.observe([], slurm.now - 1, slurm.now + late_s)
        assert node.is_live and node.misses == 0

    def test_a_node_whose_sbatch_is_under_way_is_not_missed(self, slurm: Slurm) -> None:
        node = slurm.ledger.add(identity(), 0)
        for _ in range(5):
            assert slurm.list().ended == ()
        slurm.ledger.submitted([node], ["7"], slurm.now)
        assert slurm.list().ended == () and slurm.list().ended == ()
        assert node.is_live

    def test_a_held_node_is_not_missed(self, slurm: Slurm) -> None:
        node = slurm.ledger.add(identity(), 0)
        node.held = "the quota is full"
        for _ in range(5):
            assert slurm.list().ended == ()
        assert node.is_live

    def test_a_node_that_slurm_never_lists_is_given_up(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        ended = [slurm.list().ended for _ in range(4)]
        assert (node,) in ended

    def test_a_short_listing_ends_nobody(self, slurm: Slurm) -> None:
        nodes = slurm.submit(4)
        slurm.list(*[task(index) for index in range(4)])
        assert slurm.list(task(0)).ended == ()
        assert slurm.ledger.live() == nodes

    def test_a_lost_node_that_is_listed_again_lives(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        slurm.list(job())
        for _ in range(MISSES_UNTIL_GONE):
            slurm.list()
        assert not node.is_live
        observation = slurm.list(job())
        assert node.is_live and node.is_running
        assert observation == Observation((), ())

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 60)), max_size=30))
    def test_whatever_the_listings_a_node_is_never_lost_early(
        self, listings: list[tuple[bool, float]]
    ) -> None:
        slurm = Slurm()
        (node,) = slurm.submit()
        slurm.list(job())
        misses, first_miss = 0, 0.0
        for is_listed, apart_s in listings:
            slurm.list(*([job()] if is_listed else []), apart_s=apart_s)
            misses = 0 if is_listed else misses + 1
            if misses == 1:
                first_miss = slurm.now
            if misses < MISSES_UNTIL_GONE or slurm.now - first_miss < MISSING_FOR_S - 0.2:
                assert node.is_live


class TestIdentity:
    """Which jobs belong to which nodes."""

    def test_tasks_of_an_array_are_told_apart_by_their_number(self, slurm: Slurm) -> None:
        nodes = slurm.submit(3)
        slurm.list(task(0), task(1, JobState.PENDING), task(2, JobState.FAILED))
        assert [node.is_running for node in nodes] == [True, False, False]
        assert [node.is_pending for node in nodes] == [False, True, False]
        assert [node.slurm_id for node in nodes] == ["7_0", "7_1", "7_2"]
        assert nodes[2].ended == "failed"

    def test_single_jobs_of_a_launch_are_told_apart_by_their_name(self, slurm: Slurm) -> None:
        slurm.list(job("7", index=0), job("8", index=1))
        assert {i: n.slurm_id for i, n in slurm.ledger.nodes.items()} == {
            f"{LAUNCH}-0": "7",
            f"{LAUNCH}-1": "8",
        }

    def test_a_new_process_takes_up_the_nodes_it_finds(self, slurm: Slurm) -> None:
        head = JobIdentity("demo", "head", UUID, HEAD, "headlaunch", 0)
        slurm.list(job("5", name=head.job_name), *[task(i) for i in range(2)])
        found = slurm.ledger.nodes
        assert sorted(found) == [f"{LAUNCH}-0", f"{LAUNCH}-1", "headlaunch-0"]
        assert (found["headlaunch-0"].kind, found["headlaunch-0"].node_type) == (HEAD, "head")
        assert (found[f"{LAUNCH}-1"].kind, found[f"{LAUNCH}-1"].node_type) == (WORKER, "cpu")

    def test_jobs_of_others_are_ignored(self, slurm: Slurm) -> None:
        observation = slurm.list(job(uuid="ffffffffffff"), job(name="bash"), job(name="ray:x"))
        assert slurm.ledger.nodes == {} and observation == Observation((), ())

    def test_a_node_found_finished_was_never_live(self, slurm: Slurm) -> None:
        slurm.list(job(state=JobState.COMPLETED))
        assert slurm.ledger.live() == [] and slurm.ledger.remaining() == []


class TestDuplicates:
    """One node, two jobs: an sbatch that was thought lost."""

    @pytest.mark.parametrize("order", [1, -1], ids=["older first", "younger first"])
    def test_the_job_that_runs_is_kept(self, slurm: Slurm, order: int) -> None:
        both = [job("7"), job("8", JobState.PENDING)][::order]
        assert slurm.list(*both).duplicates == ("8",)
        assert slurm.ledger.nodes[f"{LAUNCH}-0"].slurm_id == "7"

    @pytest.mark.parametrize("order", [1, -1], ids=["older first", "younger first"])
    def test_a_younger_job_that_runs_is_kept_too(self, slurm: Slurm, order: int) -> None:
        both = [job("7", JobState.PENDING), job("8")][::order]
        assert slurm.list(*both).duplicates == ("7",)

    @pytest.mark.parametrize("order", [1, -1], ids=["older first", "younger first"])
    def test_of_two_that_wait_the_older_is_kept(self, slurm: Slurm, order: int) -> None:
        both = [job("99", JobState.PENDING), job("100", JobState.PENDING)][::order]
        assert slurm.list(*both).duplicates == ("100",)

    @pytest.mark.parametrize("order", [1, -1], ids=["older first", "younger first"])
    def test_a_finished_one_does_not_end_the_node(self, slurm: Slurm, order: int) -> None:
        both = [job("7", JobState.FAILED), job("8")][::order]
        assert slurm.list(*both) == Observation((), ())
        node = slurm.ledger.nodes[f"{LAUNCH}-0"]
        assert node.is_live and node.slurm_id == "8"

    def test_two_arrays_of_one_launch_keep_one_job_for_each_node(self, slurm: Slurm) -> None:
        slurm.submit(2)
        twice = [task(i, array_id=array) for array in ("8", "7") for i in range(2)]
        assert sorted(slurm.list(*twice).duplicates) == ["8_0", "8_1"]

    def test_a_job_of_a_node_that_was_given_up_must_go(self, slurm: Slurm) -> None:
        node = slurm.ledger.add(identity(), 0)
        node.ended = "withdrawn before it was submitted"  # but sbatch had got through
        assert slurm.list(job(state=JobState.PENDING)).duplicates == ("7",)
        assert not node.is_live


class TestTelling:
    """What Ray is told."""

    def test_a_node_that_ended_before_ray_was_told_of_it_is_told_once(self, slurm: Slurm) -> None:
        (node,) = slurm.submit()
        slurm.list(job(state=JobState.FAILED))
        assert slurm.ledger.tell() == [node]
        assert slurm.ledger.tell() == []

    def test_a_node_that_ray_knew_is_not_told_again(self, slurm: Slurm) -> None:
        slurm.submit()
        slurm.ledger.tell()
        slurm.list(job(state=JobState.FAILED))
        assert slurm.ledger.tell() == []

    def test_nodes_of_an_earlier_process_that_ended_are_never_told(self, slurm: Slurm) -> None:
        slurm.list(job(state=JobState.FAILED))
        assert slurm.ledger.tell() == []


class TestMemory:
    """A long life stays small."""

    def test_ended_nodes_are_forgotten_once_slurm_forgot_them(self, slurm: Slurm) -> None:
        for number in range(100):
            launch = f"launch{number:04}"
            slurm.submit(launch=launch, job_id=str(number))
            ended = slurm.list(job(str(number), JobState.COMPLETED, launch=launch)).ended
            slurm.ledger.forget_ended(node.node_id for node in ended)
            slurm.list()
            slurm.ledger.forget_ended()
        assert slurm.ledger.nodes == {}

    def test_what_slurm_still_lists_is_not_forgotten(self, slurm: Slurm) -> None:
        slurm.submit()
        for _ in range(3):
            # Forgetting it would report its end again with the next listing.
            slurm.list(job(state=JobState.FAILED))
            slurm.ledger.forget_ended()
        assert len(slurm.ledger.nodes) == 1

    def test_a_node_that_ray_was_told_of_is_kept_until_it_was_told_otherwise(
        self, slurm: Slurm
    ) -> None:
        (node,) = slurm.submit()
        assert slurm.ledger.tell() == [node]
        node.ended = "withdrawn"
        slurm.list()
        slurm.ledger.forget_ended()
        assert slurm.ledger.nodes != {}  # Ray may be about to ask for its tags
        assert slurm.ledger.tell() == []
        slurm.ledger.forget_ended()
        assert slurm.ledger.nodes == {}

    def test_living_nodes_and_those_just_reported_are_kept(self, slurm: Slurm) -> None:
        lost, living = slurm.submit(2)
        slurm.list(task(0), task(1))
        for _ in range(MISSES_UNTIL_GONE):
            observation = slurm.list(task(1))
        assert observation.ended == (lost,)
        slurm.ledger.forget_ended(node.node_id for node in observation.ended)
        assert list(slurm.ledger.nodes.values()) == [lost, living]
        slurm.ledger.forget_ended()
        assert list(slurm.ledger.nodes.values()) == [living]

    def test_a_listing_of_ten_thousand_jobs_is_taken_in_quickly(self, slurm: Slurm) -> None:
        import time

        listing = [task(index) for index in range(10_000)]
        begin = time.process_time()
        slurm.list(*listing)
        slurm.list(*listing)
        assert time.process_time() - begin < 2
        assert len(slurm.ledger.live()) == 10_000
