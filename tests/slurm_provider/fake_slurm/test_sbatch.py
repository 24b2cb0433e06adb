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

    def test_a_controller_that_hides_its_configuration_for_now_launches_nothing(
        self, bench: Bench, slurm: SlurmPrograms
    ) -> None:
        slurm.answer("scontrol", stderr="Unable to contact slurm controller\n", rc=1)
        fleet = bench.fleet(watched=True)
        with pytest.raises(SlurmUnavailable):
            bench.launch(fleet, 3)
        assert slurm.calls("sbatch") == [] and bench.workers(fleet) == []
