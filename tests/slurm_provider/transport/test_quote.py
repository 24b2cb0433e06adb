from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slurm_provider.transport.quote import (
    MAX_COMMAND_BYTES,
    NOT_FOUND,
    OUTPUT_STARTS,
    PROCESS_ID,
    line_for_call,
    line_for_popen,
    line_for_run,
    shell_line,
)

# The shells that users choose as login shells; those that are installed here are tried.
NAMES = ("sh", "bash", "dash", "zsh", "ksh", "tcsh", "fish")
SHELLS = [path for name in NAMES if (path := shutil.which(name))]
SHOW = [sys.executable, "-S", "-c", "import sys; print(ascii(sys.argv[1:]))"]
ARGUMENTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))


def run(shell: str, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shell, "-c", line],
        capture_output=True,
        text=True,
        timeout=20,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


@given(ARGUMENTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_arguments_survive_the_shell(arguments: list[str]) -> None:
    for line in (shell_line([*SHOW, *arguments]), line_for_call([*SHOW, *arguments])):
        assert run("sh", line).stdout.strip() == ascii(arguments)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "argument",
    [
        "",
        "it's",
        "a\\b\\\\c",
        "wow!!",
        "!$",
        "a\nb\n\n",
        "$HOME`id`$(id)",
        "ü 🚀",
        "*",
        "-e",
        "=ls",
        "==",
        "%self",
        "\x7f\x01",
    ],
)
def test_a_difficult_argument_survives_every_login_shell(shell: str, argument: str) -> None:
    done = run(shell, line_for_call([*SHOW, argument]))
    assert done.stdout.strip() == ascii([argument]), done.stderr


@pytest.mark.parametrize("argument", ["=ls", "%self", "it's", "a\\b", "!x", "a\nb", "ü"])
def test_what_login_shells_read_differently_is_not_in_their_line(argument: str) -> None:
    assert argument not in line_for_call([*SHOW, argument])


@pytest.mark.parametrize("shell", SHELLS)
def test_variables_that_a_profile_exports_are_scrubbed(shell: str) -> None:
    line = line_for_run(["env"], timeout_s=10)
    profile = {
        "SBATCH_PARTITION": "wrong",
        "SQUEUE_FORMAT": "wrong",
        "SLURM_JOB_ID": "wrong",
        "RAY_ADDRESS": "wrong",
        "SLURM_CONF": "/etc/right.conf",
        "TWO_LINES": "1\nSLURM_FAKE_x=2\nSBATCH_*=3\nSACCT_a-b=4",
        "LC_ALL": "de_DE.UTF-8",
    }
    lines = run(shell, line, **profile).stdout.splitlines()
    assert "wrong" not in "".join(lines)
    assert {"SLURM_CONF=/etc/right.conf", "LC_ALL=C", "TWO_LINES=1", "SACCT_a-b=4"} <= set(lines)


def test_a_line_for_a_person_keeps_the_locale_but_not_slurms_defaults() -> None:
    line = line_for_call(["env"])
    shown = run("sh", line, LC_ALL="de_DE.UTF-8", SBATCH_QOS="wrong").stdout
    assert "LC_ALL=de_DE.UTF-8" in shown
    assert "SBATCH_QOS" not in shown


def test_the_output_is_marked_where_the_command_begins() -> None:
    done = run("sh", "echo welcome; " + line_for_run(["echo", "x"], timeout_s=10))
    assert done.stdout == f"welcome\n{OUTPUT_STARTS}\nx\n"


def test_a_long_command_tells_its_process_id_first() -> None:
    done = run("sh", line_for_popen(["sh", "-c", "echo $$"]))
    assert done.stderr == f"{PROCESS_ID}{done.stdout}"


def test_a_command_outlives_its_time_limit_by_a_few_seconds_at_most() -> None:
    assert run("sh", line_for_run(["sleep", "15"], timeout_s=-1.9)).returncode == 124


def test_a_missing_command_is_told_with_the_path_that_was_searched() -> None:
    done = run("sh", line_for_run(["no-such-command"], timeout_s=10))
    assert done.returncode == 127
    assert done.stderr == f"{NOT_FOUND}: no-such-command (PATH=/usr/bin:/bin)\n"


def test_an_empty_command_is_refused() -> None:
    with pytest.raises(ValueError, match="no command"):
        line_for_call([])


def test_a_nul_in_an_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        line_for_call(["echo", "a\0b"])


def test_what_linux_would_not_take_as_one_argument_is_refused() -> None:
    assert run("sh", line_for_call(["true", "x" * (MAX_COMMAND_BYTES - 2000)])).returncode == 0
    with pytest.raises(ValueError, match=r"'true' is too long .* standard input"):
        line_for_call(["true", "x" * MAX_COMMAND_BYTES])
