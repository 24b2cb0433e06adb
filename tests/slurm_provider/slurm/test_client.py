from __future__ import annotations

from dataclasses import replace

import pytest

from slurm_provider.slurm import (
    AccountingUnavailable,
    ArrayRefused,
    SlurmClient,
    SlurmLimited,
    SlurmMissing,
    SlurmOutputError,
    SlurmRefused,
    SlurmUnavailable,
    Submission,
    Submitted,
)
from slurm_provider.transport import AuthenticationFailed, CommandNotFound, CommandTimeout
from tests.slurm_provider.slurm.conftest import FakeTransport, answer, queue_row, queue_text
from tests.slurm_provider.slurm.test_accounting import LISTING

NODE = Submission("node.sh", options={"partition": "gpu"}, provider_options={"job-name": "ray:x"})


@pytest.fixture
def client(transport: FakeTransport) -> SlurmClient:
    return SlurmClient(transport)


def test_a_submission_is_one_command_and_answers_the_job_id(
    transport: FakeTransport, client: SlurmClient
) -> None:
    transport.outcomes = [answer("42\n")]
    assert client.submit(NODE) == Submitted("42")
    assert len(transport.commands) == 1
    assert transport.timeouts_s == [60.0]


def test_a_submission_without_an_answer_may_have_happened(
    transport: FakeTransport, client: SlurmClient
) -> None:
    transport.outcomes = [CommandTimeout("too late"), answer("thanks\n")]
    with pytest.raises(SlurmUnavailable, match=r"within 60 s.* all the same"):
        client.submit(NODE)
    with pytest.raises(SlurmUnavailable, match="names no job"):
        client.submit(NODE)


def test_a_refused_submission_keeps_slurms_words(
    transport: FakeTransport, client: SlurmClient
) -> None:
    words = "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
    transport.outcomes = [answer(stderr=words, returncode=1)]
    with pytest.raises(SlurmRefused, match=r"sbatch \(here\): .*Invalid partition name specified"):
        client.submit(NODE)


def test_a_refused_array_is_told_from_another_refusal(
    transport: FakeTransport, client: SlurmClient
) -> None:
    words = "sbatch: error: Batch job submission failed: Invalid job array specification\n"
    transport.outcomes = [answer(stderr=words, returncode=1)] * 2
    with pytest.raises(ArrayRefused, match="Invalid job array specification"):
        client.submit(replace(NODE, array_tasks=[0, 1]))
    with pytest.raises(SlurmRefused) as refused:
        client.submit(NODE)
    assert not isinstance(refused.value, ArrayRefused)


def test_asking_only_gives_a_verdict(transport: FakeTransport, client: SlurmClient) -> None:
    transport.outcomes = [
        answer(stderr="sbatch: Job 9 to start at 1795392331 using 1 processors on nodes n1\n"),
        answer(
            stderr="allocation failure: Requested node configuration is not available\n",
            returncode=1,
        ),
        answer(
            stderr="sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
            "allocation failure: Job violates accounting/QOS policy\n",
            returncode=1,
        ),
    ]
    accepted = client.test_only(NODE)
    assert (accepted.accepted, accepted.expected_start) == (True, 1795392331.0)
    refused = client.test_only(NODE)
    assert (refused.accepted, refused.expected_start) == (False, None)
    assert "Requested node configuration is not available" in refused.words
    with pytest.raises(SlurmLimited):
        client.test_only(NODE)


def test_the_queue_is_one_command(transport: FakeTransport, client: SlurmClient) -> None:
    transport.outcomes = [answer(queue_text(queue_row("42"), queue_row("43_1")))]
    assert [job.job_id for job in client.queue()] == ["42", "43_1"]
    assert len(transport.commands) == 1


@pytest.mark.parametrize(
    ("stdout", "stderr", "returncode"),
    [
        ("", "slurm_load_jobs error: Socket timed out on send/recv operation\n", 1),
        ("", "slurm_load_jobs error: Socket timed out on send/recv operation\n", 0),
        ("", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n", 1),
        ("", "", 1),
        (queue_text(queue_row()), "", 255),
    ],
)
def test_a_failing_squeue_never_becomes_a_list(
    transport: FakeTransport, client: SlurmClient, stdout: str, stderr: str, returncode: int
) -> None:
    transport.outcomes = [answer(stdout, stderr, returncode)]
    with pytest.raises(SlurmUnavailable, match=r"squeue \(here\)"):
        client.queue()


def test_a_silent_squeue_is_not_an_empty_queue(
    transport: FakeTransport, client: SlurmClient
) -> None:
    transport.outcomes = [answer("")]
    with pytest.raises(SlurmOutputError, match="no header"):
        client.queue()


def test_a_warning_beside_a_whole_listing_does_no_harm(
    transport: FakeTransport, client: SlurmClient
) -> None:
    transport.outcomes = [answer(queue_text(queue_row()), "squeue: error: plugin is deprecated\n")]
    assert len(client.queue()) == 1


def test_many_nodes_are_cancelled_by_one_command(
    transport: FakeTransport, client: SlurmClient
) -> None:
    transport.outcomes = [answer()]
    client.cancel([f"111_{task}" for task in range(2000)] + ["7", "8"])
    assert transport.commands == [["scancel", "7", "8", "111_[0-1999]"]]


def test_cancelling_nothing_runs_nothing(transport: FakeTransport, client: SlurmClient) -> None:
    client.cancel([])
    assert transport.commands == []


def test_thousands_of_single_jobs_are_cancelled_in_few_commands(
    transport: FakeTransport, client: SlurmClient
) -> None:
    transport.outcomes = [answer(), answer(), answer()]
    client.cancel(str(number) for number in range(1, 2501))
    assert [len(command) - 1 for command in transport.commands] == [1000, 1000, 500]


def test_a_job_that_is_gone_is_no_error_but_a_foreign_one_is(
    transport: FakeTransport, client: SlurmClient
) -> None:
    gone = (
        "scancel: error: Kill job error on job id 5: Invalid job id specified\n"
        "scancel: error: Kill job error on job id 6: Job/step already completing or completed\n"
    )
    foreign = "scancel: error: Kill job error on job id 1: Access/permission denied\n"
    transport.outcomes = [
        answer(stderr=gone, returncode=1),
        answer(stderr=gone + foreign, returncode=210),
    ]
    client.cancel(["5", "6"])
    with pytest.raises(SlurmRefused, match="Access/permission denied"):
        client.cancel(["5", "6", "1"])


def test_cancelling_without_an_answer_is_unknown(
    transport: FakeTransport, client: SlurmClient
) -> None:
    words = "scancel: error: Kill job error on job id 1: Socket timed out on send/recv operation\n"
    transport.outcomes = [answer(stderr=words, returncode=140)]
    with pytest.raises(SlurmUnavailable):
        client.cancel(["1"])


def test_only_job_ids_are_cancelled(transport: FakeTransport, client: SlurmClient) -> None:
    with pytest.raises(ValueError, match="--user=root"):
        client.cancel(["1", "--user=root"])
    assert transport.commands == []


def test_history_of_many_tasks_is_one_command_for_their_array(
    transport: FakeTransport, client: SlurmClient
) -> None:
    transport.outcomes = [answer(LISTING)]
    found = client.history(["2_0", "2_1", "2_2", "1", "99"])
    assert sorted(found) == ["1", "2_0", "2_1", "2_2"]
    assert "--jobs=2,1,99" in transport.commands[0]


def test_history_of_nothing_runs_nothing(transport: FakeTransport, client: SlurmClient) -> None:
    assert client.history([]) == {}
    assert transport.commands == []


def test_a_site_without_accounting_has_no_history_and_unknown_accounts(
    transport: FakeTransport, client: SlurmClient
) -> None:
    disabled = answer(stderr="Slurm accounting storage is disabled\n", returncode=1)
    transport.outcomes = [disabled, answer("user1\n"), disabled]
    with pytest.raises(AccountingUnavailable):
        client.history(["1"])
    accounts = client.accounts()
    assert not accounts.known
    assert accounts.associations == ()


@pytest.mark.parametrize(
    "outcome",
    [
        CommandNotFound("no such command"),
        answer(stderr="env: 'squeue': No such file", returncode=127),
    ],
)
def test_a_missing_command_is_named_with_the_place_and_the_next_step(
    transport: FakeTransport, client: SlurmClient, outcome: Exception
) -> None:
    transport.outcomes = [outcome]
    transport.label = "user1@edge"
    with pytest.raises(SlurmMissing, match=r"squeue is not on PATH of user1@edge.*provider\.ssh"):
        client.queue()


def test_a_broken_way_to_slurm_keeps_its_own_words_and_nature(
    transport: FakeTransport, client: SlurmClient
) -> None:
    transport.outcomes = [AuthenticationFailed("user1@edge refused the key", transient=False)]
    with pytest.raises(SlurmUnavailable, match="refused the key") as caught:
        client.queue()
    assert not caught.value.transient


def test_named_clusters_are_asked(transport: FakeTransport) -> None:
    client = SlurmClient(transport, clusters="lab")
    transport.outcomes = [answer("CLUSTER: lab\n" + queue_text()), answer()]
    assert client.queue() == []
    client.cancel(["1"])
    assert all("--clusters=lab" in command for command in transport.commands)
