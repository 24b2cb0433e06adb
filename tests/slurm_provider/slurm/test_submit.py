from __future__ import annotations

import subprocess

import pytest

from slurm_provider.slurm import OptionError, Submission, Submitted, submit_argv
from slurm_provider.slurm.submit import parse_expected_start, parse_submitted, test_only_argv

# Named test_… for sbatch's sake, not pytest's.
test_only_argv.__test__ = False  # type: ignore[attr-defined]


def test_a_submission_is_one_sbatch_with_options_then_script_then_arguments() -> None:
    submission = Submission(
        script="/shared/node.sh",
        args=["--not-an-option", "x"],
        options={"partition": "gpu", "gres": "gpu:1", "exclusive": True},
        provider_options={"job-name": "ray:demo", "output": "/shared/a b.log"},
    )
    argv = submit_argv(submission)
    assert argv[argv.index("sbatch") :] == [
        "sbatch",
        "--parsable",
        "--export=ALL",
        "--exclusive",
        "--gres=gpu:1",
        "--job-name=ray:demo",
        "--nodes=1",
        "--ntasks=1",
        "--output=/shared/a b.log",
        "--partition=gpu",
        "/shared/node.sh",
        "--not-an-option",
        "x",
    ]


def test_sbatch_starts_with_a_short_environment_so_that_the_job_does() -> None:
    argv = submit_argv(Submission("s.sh"))
    prefix = argv[: argv.index("sbatch")]
    noisy = {"PATH": "/usr/bin:/bin", "HOME": "/h", "USER": "u", "SECRET": "x", "RAY_ADDRESS": "y",
             "SLURM_CONF": "/etc/slurm.conf", "SLURM_JOB_ID": "1", "SBATCH_WRAP": "z"}  # fmt: skip
    done = subprocess.run([*prefix, "env"], env=noisy, capture_output=True, text=True, check=True)
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert names == {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LC_ALL", "SLURM_CONF"}


def test_an_array_names_its_tasks() -> None:
    assert "--array=0-2,5" in submit_argv(Submission("s.sh", array_tasks=[0, 1, 2, 5]))
    with pytest.raises(ValueError, match="task ids"):
        submit_argv(Submission("s.sh", array_tasks=[]))


def test_a_user_cannot_set_what_belongs_to_the_provider() -> None:
    with pytest.raises(OptionError, match="belongs to the provider"):
        submit_argv(Submission("s.sh", options={"wrap": "rm -rf /"}))


def test_the_providers_own_options_are_checked_too() -> None:
    with pytest.raises(OptionError, match="line break"):
        submit_argv(Submission("s.sh", provider_options={"job-name": "a\nb"}))
    with pytest.raises(OptionError, match="not an sbatch option"):
        submit_argv(Submission("s.sh", provider_options={"jobname": "a"}))


def test_asking_only_submits_nothing_and_gets_epoch_seconds() -> None:
    argv = test_only_argv(Submission("s.sh"))
    assert argv[:4] == ["env", "SLURM_TIME_FORMAT=%s", "sbatch", "--test-only"]
    assert "--parsable" not in argv


@pytest.mark.parametrize(
    ("stdout", "job_id"),
    [
        ("123\n", "123"),
        ("123;lab\n", "123"),
        ("Welcome to the cluster\nproject: 42 hours left\n123\n", "123"),
        ("123\n\nThank you\n", "123"),
    ],
)
def test_the_job_id_is_found_among_lines_of_plug_ins(stdout: str, job_id: str) -> None:
    assert parse_submitted(stdout) == Submitted(job_id)


@pytest.mark.parametrize("stdout", ["", "Submitted\n", "job 123 submitted\n"])
def test_no_job_id_is_no_guess(stdout: str) -> None:
    assert parse_submitted(stdout) is None


def test_an_answer_lists_the_ids_that_squeue_will_show() -> None:
    assert Submitted("7").job_ids == ("7",)
    assert Submitted("7", (0, 1, 5)).job_ids == ("7_0", "7_1", "7_5")


@pytest.mark.parametrize(
    "text",
    [
        "sbatch: Job 9 to start at 1795392331 using 2 processors on nodes n1 in partition debug",
        "sbatch: Job 9 to start at 1795392331 a using 2 processors on nodes n1",  # 25.05 on
    ],
)
def test_the_expected_start_is_read_from_old_and_new_sentences(text: str) -> None:
    assert parse_expected_start(text) == 1795392331.0


def test_a_start_that_is_no_epoch_time_is_unknown() -> None:
    assert parse_expected_start("Job 9 to start at 2026-11-23T00:05:31 using 2") is None
