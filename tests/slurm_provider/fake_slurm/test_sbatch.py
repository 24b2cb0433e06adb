"""What sbatch may answer, and what becomes of the launch."""

from __future__ import annotations

import pytest

from slurm_provider.fleet.identity import parse_job_name
from slurm_provider.slurm import SlurmLimited, SlurmMissing, SlurmRefused, SlurmUnavailable
from tests.slurm_provider.fake_slurm.programs import Bench, SlurmPrograms

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
INVALID = "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
FULL = (
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job "
    "violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n"
)


def test_the_job_names_its_node_and_gets_a_clean_environment(
    bench: Bench, slurm: SlurmPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SBATCH_PARTITION", "RAY_OVERRIDE_RESOURCES", "MY_SECRET"):
        monkeypatch.setenv(name, "leaked")
    (identifier,) = bench.launch(bench.fleet())
    (call,) = slurm.calls("sbatch")
    assert "leaked" not in call["env"].values()
    identity = parse_job_name(slurm.jobs[-1]["name"])
    assert identity is not None
    assert (f"{identity.launch}-{identity.index}", identity.uuid) == (identifier, bench.uuid)


def test_three_nodes_are_one_array(bench: Bench, slurm: SlurmPrograms) -> None:
    fleet = bench.fleet()
    identifiers = bench.launch(fleet, 3)
    assert len(slurm.calls("sbatch")) == 1
    assert [job["job_id"] for job in slurm.jobs] == ["7", "101_0", "101_1", "101_2"]
    assert sorted(node.node_id for node in bench.workers(fleet)) == sorted(identifiers)


@pytest.mark.parametrize(
    "stray", ["Welcome to the cluster!\n", "job_submit: account set to 4711\n\n", "42 hints:\n"]
)
def test_lines_of_a_plug_in_before_the_id_do_no_harm(
    bench: Bench, slurm: SlurmPrograms, stray: str
) -> None:
    slurm.answer("sbatch", f"{stray}101\n", done=True)
    fleet = bench.fleet()
    bench.launch(fleet)
    assert [node.slurm_id for node in bench.workers(fleet)] == ["101"]


class TestNoClearAnswer:
    """The job was queued all the same."""

    def test_a_command_finds_it_and_submits_once(self, bench: Bench, slurm: SlurmPrograms) -> None:
        slurm.answer("sbatch", stderr=TIMED_OUT, rc=1, done=True)
        fleet = bench.fleet()
        bench.launch(fleet, 2)
        assert len(slurm.calls("sbatch")) == 1
        assert [node.slurm_id for node in bench.workers(fleet)] == ["101_0", "101_1"]

    def test_success_without_an_id_is_looked_for_too(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        slurm.answer("sbatch", "thank you\n", done=True)
        fleet = bench.fleet()
        bench.launch(fleet)
        assert len(slurm.calls("sbatch")) == 1
        assert [node.slurm_id for node in bench.workers(fleet)] == ["101"]

    def test_a_job_that_is_listed_late_is_waited_for(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        slurm.answer("sbatch", stderr=TIMED_OUT, rc=1, done=True)
        slurm.answer("squeue", stderr="slurm_load_jobs error: Socket timed out\n", rc=1)
        fleet = bench.fleet()
        bench.clock.on_sleep = [lambda: None] * 3 + [lambda: slurm.tell_the_truth("squeue")]
        bench.launch(fleet)
        assert len(slurm.calls("sbatch")) == 1

    def test_on_the_head_it_is_taken_up_by_a_later_look(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        fleet = bench.fleet(watched=True)
        slurm.answer("sbatch", stderr=TIMED_OUT, rc=1, done=True)
        identifiers = bench.launch(fleet, 2)
        assert all("Socket timed out" in str(n.held) for n in bench.workers(fleet))
        bench.tick(fleet)
        nodes = bench.workers(fleet)
        assert [n.node_id for n in nodes] == identifiers and [n.held for n in nodes] == [None] * 2
        assert len(slurm.calls("sbatch")) == 1

    def test_an_sbatch_that_hangs_is_given_up(
        self, bench: Bench, slurm: SlurmPrograms, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("slurm_provider.slurm.client.SUBMIT_TIMEOUT_S", 0.3)
        slurm.answer("sbatch", sleep_s=60, done=True)
        fleet = bench.fleet(timeout_s=0.3)
        slurm.tell_the_truth("squeue")
        bench.launch(fleet)
        assert len(slurm.calls("sbatch")) == 1
        assert [node.slurm_id for node in bench.workers(fleet)] == ["101"]


class TestNoAnswerAtAll:
    def test_a_command_tries_again_and_then_says_so(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        slurm.answer("sbatch", stderr=TIMED_OUT, rc=1)
        with pytest.raises(
            SlurmUnavailable, match=r"sbatch \(here\): .*Socket timed out.*may have"
        ):
            bench.launch(bench.fleet())
        assert len(slurm.calls("sbatch")) == 3

    def test_a_command_succeeds_when_it_answers_again(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        slurm.answer("sbatch", stderr=TIMED_OUT, rc=1, times=2)
        fleet = bench.fleet()
        bench.launch(fleet)
        assert len(slurm.calls("sbatch")) == 3 and len(bench.workers(fleet)) == 1


class TestRefused:
    @pytest.mark.parametrize("watched", [False, True], ids=["in a command", "on the head"])
    @pytest.mark.parametrize(
        "words",
        [
            "Invalid partition name specified",
            "Invalid account or account/partition combination specified",
            "Requested node configuration is not available",
            "Invalid qos specification",
        ],
    )
    def test_it_says_no_in_slurms_words_and_leaves_nothing(
        self, bench: Bench, slurm: SlurmPrograms, watched: bool, words: str
    ) -> None:
        error = f"sbatch: error: Batch job submission failed: {words}\n"
        slurm.answer("sbatch", stderr=error, rc=1)
        fleet = bench.fleet(watched=watched)
        with pytest.raises(SlurmRefused, match=rf"sbatch \(here\): .*{words}"):
            bench.launch(fleet)
        assert bench.workers(fleet) == [] and len(slurm.calls("sbatch")) == 1

    def test_on_the_head_the_next_launch_is_held_with_the_words(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        fleet = bench.fleet(watched=True)
        slurm.answer("sbatch", stderr=INVALID, rc=1)
        with pytest.raises(SlurmRefused):
            bench.launch(fleet)
        bench.launch(fleet, 3)
        for _ in range(10):
            bench.tick(fleet)
        assert len(slurm.calls("sbatch")) == 1
        assert {node.held for node in bench.workers(fleet)} == {
            "node type 'cpu' is paused: sbatch (here): Batch job submission failed: Invalid "
            "partition name specified"
        }

    def test_a_full_quota_is_a_no_for_now(self, bench: Bench, slurm: SlurmPrograms) -> None:
        slurm.answer("sbatch", stderr=FULL, rc=1)
        with pytest.raises(SlurmLimited, match="AssocMaxSubmitJobLimit"):
            bench.launch(bench.fleet())
        fleet = bench.fleet(watched=True)
        bench.launch(fleet)
        assert ["AssocMaxSubmitJobLimit" in str(n.held) for n in bench.workers(fleet)] == [True]
        slurm.tell_the_truth("sbatch")
        bench.tick(fleet)
        assert [node.held for node in bench.workers(fleet)] == [None]


class TestMissingCommands:
    def test_without_sbatch_the_sentence_says_where_and_what_to_do(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        slurm.remove("sbatch")
        with pytest.raises(SlurmMissing, match=r"sbatch is not on PATH of here\. .*provider\.ssh"):
            bench.launch(bench.fleet())

    def test_without_scontrol_nodes_are_single_jobs(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        slurm.remove("scontrol")
        fleet = bench.fleet()
        bench.launch(fleet, 3)
        assert [job["job_id"] for job in slurm.jobs] == ["7", "101", "102", "103"]
        assert len(bench.workers(fleet)) == 3


class TestArrays:
    NO_ARRAYS = (
        "sbatch: error: Batch job submission failed: Invalid job array specification\n",
        "sbatch: error: job arrays are not allowed in this partition\n"
        "sbatch: error: Batch job submission failed: Unspecified error\n",
    )

    def test_what_a_controller_does_not_say_for_now_holds_the_launch(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        silence = "Unable to contact slurm controller"
        slurm.answer("scontrol", stderr=f"{silence}\n", rc=1)
        fleet = bench.fleet(watched=True)
        identifiers = bench.launch(fleet, 3)
        assert [node.node_id for node in bench.workers(fleet)] == identifiers
        assert all(silence in str(node.held) for node in bench.workers(fleet))
        assert slurm.calls("sbatch") == []
        slurm.tell_the_truth("scontrol")
        bench.tick(fleet)
        assert [job["job_id"] for job in slurm.jobs] == ["7", "101_0", "101_1", "101_2"]
        assert [node.held for node in bench.workers(fleet)] == [None] * 3

    def test_a_launch_made_in_the_dark_is_cut_when_the_limit_is_known(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        slurm.answer("scontrol", stderr="Unable to contact slurm controller\n", rc=1)
        fleet = bench.fleet(watched=True)
        identifiers = bench.launch(fleet, 5)
        slurm.answer("scontrol", "ClusterName = fake\nSLURM_VERSION = 22.05.8\nMaxArraySize = 4\n")
        bench.tick(fleet)
        # Task ids end at 3; the last node has no place in an array.
        submitted = " ".join(job["job_id"] for job in slurm.jobs[1:])
        assert submitted == "101_0 101_1 101_2 102 103"
        assert [node.node_id for node in bench.workers(fleet)] == identifiers
        assert [node.held for node in bench.workers(fleet)] == [None] * 5

    def test_a_site_may_allow_fewer_tasks_than_task_ids(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        slurm.answer(
            "scontrol",
            "ClusterName = fake\nSLURM_VERSION = 22.05.8\nMaxArraySize = 1001\n"
            "SchedulerParameters = bf_interval=30,max_array_tasks=2,nohold_on_prolog_fail\n",
        )
        bench.launch(bench.fleet(), 5)
        asked = [call["argv"] for call in slurm.calls("sbatch")]
        assert [[w for w in argv if w.startswith("--array")] for argv in asked] == [
            ["--array=0-1"], ["--array=0-1"], []
        ]  # fmt: skip

    @pytest.mark.parametrize("words", NO_ARRAYS, ids=["Slurm", "a plug-in"])
    def test_nodes_become_single_jobs_where_an_array_is_refused(
        self, bench: Bench, slurm: SlurmPrograms, words: str
    ) -> None:
        fleet = bench.fleet(watched=True)
        slurm.answer("sbatch", stderr=words, rc=1, times=1)
        identifiers = bench.launch(fleet, 3)
        assert [job["job_id"] for job in slurm.jobs[1:]] == ["101", "102", "103"]
        assert [node.slurm_id for node in bench.workers(fleet)] == ["101", "102", "103"]
        bench.tick(fleet)
        assert [node.node_id for node in bench.workers(fleet)] == identifiers
        # What tells the agent of a single job which node it is.
        last_words = [call["argv"][-1] for call in slurm.calls("sbatch")[2:]]
        assert last_words == ["1", "2"]
        bench.launch(fleet, 2)
        assert len(slurm.calls("sbatch")) == 1 + 3 + 2  # it is not asked for an array again

    def test_single_jobs_that_are_refused_too_pause_the_type(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        fleet = bench.fleet(watched=True)
        slurm.answer("sbatch", stderr=self.NO_ARRAYS[1], rc=1)
        with pytest.raises(SlurmRefused, match="not allowed in this partition"):
            bench.launch(fleet, 3)
        assert len(slurm.calls("sbatch")) == 2 and bench.workers(fleet) == []
        bench.launch(fleet, 3)
        assert all("is paused" in str(node.held) for node in bench.workers(fleet))

    def test_a_refusal_after_some_went_ends_none_of_them(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        fleet = bench.fleet(watched=True)
        slurm.remove("scontrol")
        slurm.answer("sbatch", stderr=INVALID, rc=1, after=1)
        bench.launch(fleet, 3)
        bench.tick(fleet)
        assert [job["state"] for job in slurm.jobs[1:]] == ["PENDING"]
        assert [node.held is None for node in bench.workers(fleet)] == [True, False, False]
