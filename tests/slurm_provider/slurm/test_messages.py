from __future__ import annotations

import pytest

from slurm_provider.slurm import (
    AccountingUnavailable,
    SlurmError,
    SlurmLimited,
    SlurmRefused,
    SlurmUnavailable,
)
from slurm_provider.slurm.messages import command_error, slurm_words

POLICY = (
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)
FAILED = "sbatch: error: Batch job submission failed: "


def error_of(stderr: str, returncode: int = 1, command: str = "sbatch") -> SlurmError:
    return command_error(command, "user1@edge", returncode, stderr)


@pytest.mark.parametrize(
    "stderr",
    [
        FAILED + "Socket timed out on send/recv operation",
        FAILED + "Unable to contact slurm controller (connect failure)",
        FAILED + "Zero Bytes were transmitted or received",
        FAILED + "Slurm backup controller in standby mode",
        FAILED + "Rate limit exceeded, please retry momentarily",
        'sbatch: error: Munge encode failed: Failed to access "m.sock" (Did you start munged?)\n'
        + FAILED
        + "Protocol authentication error",
        "sbatch: fatal: Could not establish a configuration source",
        "sacct: error: Problem talking to the database: Connection refused",
        "",
    ],
)
def test_no_answer_leaves_the_outcome_unknown(stderr: str) -> None:
    error = error_of(stderr)
    assert type(error) is SlurmUnavailable
    assert error.transient
    assert "may have been done all the same" in str(error)


@pytest.mark.parametrize(
    "stderr",
    [
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\n" + POLICY,
        "sbatch: error: AssocMaxSubmitJobLimit\n" + POLICY,
        "sbatch: error: AssocGrpSubmitJobsLimit\n" + POLICY,
        "sbatch: error: MaxSubmitJobsPerAccount\n" + POLICY,
        POLICY,
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
        FAILED + "Required partition not available (inactive or drain)",
        FAILED + "MaxJobCount limit reached",
        FAILED + "System submissions disabled",
    ],
)
def test_a_full_quota_or_closed_partition_is_for_later(stderr: str) -> None:
    error = error_of(stderr)
    assert type(error) is SlurmLimited
    assert error.transient


@pytest.mark.parametrize(
    "stderr",
    [
        "sbatch: error: invalid partition specified: nope\n"
        + FAILED
        + "Invalid partition name specified",
        FAILED + "Invalid account or account/partition combination specified",
        FAILED + "Invalid qos specification",
        FAILED + "Requested node configuration is not available",
        FAILED + "Requested time limit is invalid (missing or exceeds some limit)",
        FAILED + "Access/permission denied",
        FAILED + "User's group not permitted to use this partition",
        FAILED + "Invalid feature specification",
        "sbatch: error: Invalid generic resource (gres) specification",
        "sbatch: unrecognized option '--segment=1'\nTry \"sbatch --help\" for more information",
        "sbatch: error: Unable to open file nosuch.sh",
        "sbatch: error: QOSMaxCpuPerJobLimit\n" + POLICY,
        "sbatch: error: QOSMaxWallDurationPerJobLimit\n" + POLICY,
    ],
)
def test_a_clear_no_is_final_and_keeps_slurms_words(stderr: str) -> None:
    error = error_of(stderr)
    assert type(error) is SlurmRefused
    assert not error.transient
    assert str(error).startswith("sbatch (user1@edge): ")
    assert slurm_words(stderr) in str(error)


def test_clients_and_controllers_of_different_versions_are_named_as_such() -> None:
    error = error_of("slurm_load_jobs error: Insane message length", command="squeue")
    assert type(error) is SlurmRefused
    assert "SLURM_CONF" in str(error)


@pytest.mark.parametrize(
    "stderr",
    [
        "Slurm accounting storage is disabled",
        "You are not running a supported accounting_storage plugin\n"
        "Only 'accounting_storage/slurmdbd' is supported.",
    ],
)
def test_a_site_without_accounting_is_named_as_such(stderr: str) -> None:
    assert type(error_of(stderr, command="sacct")) is AccountingUnavailable


def test_an_unread_command_that_gave_no_answer_did_nothing_worth_a_warning() -> None:
    error = error_of("slurm_load_jobs error: Socket timed out", command="squeue")
    assert "all the same" not in str(error)


def test_slurms_words_are_one_line_without_prefixes_or_repeats() -> None:
    text = "sbatch: error: one\nsbatch: fatal: two\nsbatch: error: one\n\n"
    assert slurm_words(text) == "one; two"
    assert len(slurm_words("x" * 5000)) < 1100
