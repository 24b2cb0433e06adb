"""What follows from what is known of a command's end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm_provider.command_end import (
    Evidence,
    NodeState,
    Record,
    own_exit_code,
    parse_record,
    srun_words,
    unfinished,
)
from slurm_provider.recorded import _wrapper
from tests.e2e.terminal import terminal
from tests.sandbox_fixture import wait_for

FAILED = NodeState("the head's job 7 ended (node fail)", True)
RUNS = NodeState("the head's job 7 still runs on n1", False)
SILENT = NodeState("what became of node h-0 is not known now (no answer)", None)
WORKER = NodeState("node w-0's job 8 ended (cancelled)", True, is_head=False)

CODES = [
    ("an end here and there", Record(0), 0, 0),
    ("a failure", Record(7), 7, 7),
    ("a failure whose srun was killed", Record(7), 137, 7),
    ("srun's 0, and no word of the command", None, 0, None),
    ("srun's 0, and a command that only started", Record(), 0, None),
    ("a success that did not arrive", Record(0), 137, None),
    ("a success on a broken connection", Record(0), None, None),
    ("a success after a signal from outside", Record(0, "TERM"), 0, None),
    ("a failure after a signal from outside", Record(143, "TERM"), 143, None),
]


@pytest.mark.parametrize(
    ("record", "passed_on", "code"), [case[1:] for case in CODES], ids=[case[0] for case in CODES]
)
def test_a_command_has_an_exit_code_only_if_it_is_proved_to_have_ended_by_itself(
    record: Record | None, passed_on: int | None, code: int | None
) -> None:
    assert own_exit_code(record, passed_on) == code


@pytest.mark.parametrize(
    ("text", "record"),
    [
        ("started        \n", Record()),
        ("ended 0        \n", Record(0)),
        ("ended 143 TERM \n", Record(143, "TERM")),
        ("ended", Record()),  # cut off as it was written: it was running
        ("", None),  # a full disk takes the name of a file and nothing else
    ],
)
def test_a_record_says_how_far_the_command_came(text: str, record: Record | None) -> None:
    assert parse_record(text.encode()) == record


ZERO = "srun ended with exit code 0 (Node failure on n1)"
DROPPED = "the connection to user1@edge dropped"
SENTENCES = [
    (Evidence(Record(), ZERO, 0), FAILED,
     "did not finish: it was running when the head's job 7 ended (node fail); `ray up` starts a "
     "new head, where you can run it again"),
    (Evidence(Record(), ZERO, 0), WORKER,
     "did not finish: it was running when node w-0's job 8 ended (cancelled); run it again on "
     "another node"),
    (Evidence(Record(), DROPPED, None), RUNS,
     "is not known to have finished: it had started, the connection to user1@edge dropped, and "
     "the head's job 7 still runs on n1, so it may go on there; look for it with `ray exec` and "
     "`ps x` before you run it again"),
    (Evidence(Record(143, "TERM"), ZERO, 143), FAILED,
     "was ended from outside: it got SIGTERM and ended with exit code 143, and the head's job 7 "
     "ended (node fail); `ray up` starts a new head, where you can run it again"),
    (Evidence(Record(0), DROPPED, None), RUNS,
     "ended with exit code 0, but the end of its output may be missing: the connection to "
     "user1@edge dropped, and the head's job 7 still runs on n1; run it again if you need that "
     "output"),
    (Evidence(None, ZERO, 0), RUNS,
     f"did not start: {ZERO}, and the head's job 7 still runs on n1; run it again"),
    (Evidence(None, ZERO, 0), FAILED,
     f"is not known to have finished: {ZERO}, and the head's job 7 ended (node fail); `ray up` "
     "starts a new head, where you can run it again"),
    (Evidence(None, "srun ended with exit code 0", 0, unwritable="No space left on device"), RUNS,
     "is not known to have finished: srun ended with exit code 0, but its end could not be noted "
     "in the cluster's folder (No space left on device), and the head's job 7 still runs on n1; "
     "make room there, look at what the command left, and run it again if need be"),
    (Evidence(None, DROPPED, None, unreadable="the cluster's folder cannot be read now (x)"),
     SILENT,
     "is not known to have finished: the connection to user1@edge dropped, and the cluster's "
     "folder cannot be read now (x), so it may go on; look for it with `ray exec` and `ps x` "
     "before you run it again"),
]  # fmt: skip


@pytest.mark.parametrize(("evidence", "node", "predicate"), SENTENCES)
def test_one_sentence_says_what_is_known_and_the_next_step(
    evidence: Evidence, node: NodeState, predicate: str
) -> None:
    error = unfinished(evidence, node)

    assert str(error) == f"the command {predicate}"
    assert str(error.of("copying a to b")) == f"copying a to b {predicate}"
    assert error.node_has_ended is node.has_ended


def test_srun_s_own_complaint_is_told_from_what_the_command_printed() -> None:
    said = "my error: x\nsrun: error: Node failure on n1\nsrun: interrupt\n"
    assert srun_words(said) == "Node failure on n1"
    assert srun_words("error: of the command's own") == ""


# -- job_scripts/command.sh ------------------------------------------------------------------


def start(
    record: Path | str, command: str, *, in_step: bool = False, **options: Any
) -> subprocess.Popen[bytes]:
    """``in_step``: as srun starts it."""
    env = {**os.environ, **({"SLURM_STEP_ID": "0"} if in_step else {})}
    argv = ["bash", "-c", _wrapper(), "command.sh", str(record), command]
    return subprocess.Popen(
        argv, **{"stdin": subprocess.DEVNULL, **options}, stdout=subprocess.PIPE, env=env,
        start_new_session=True,
    )  # fmt: skip


def wait_for_end(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("command", "code"),
    [("true", 0), ("exit 7", 7), ("exec sh -c 'exit 8'", 8), ("trap : EXIT; exit 9", 9),
     ("no-such-command", 127), ("kill -INT $$", 130), ("kill -KILL $$", 137),
     ("kill -TERM $$", 143)],
)  # fmt: skip
def test_every_end_of_the_command_s_own_is_noted(tmp_path: Path, command: str, code: int) -> None:
    record = tmp_path / "record"
    process = start(record, command, stderr=subprocess.PIPE)
    assert wait_for_end(process) == code
    assert process.stderr is not None
    assert command == "no-such-command" or process.stderr.read() == b""
    assert parse_record(record.read_bytes()) == Record(code)
    assert record.stat().st_mode & 0o777 == 0o600


def test_the_command_reads_standard_input(tmp_path: Path) -> None:
    process = start(tmp_path / "record", "tr a-z A-Z", stdin=subprocess.PIPE)
    assert process.communicate(b"words", timeout=20)[0] == b"WORDS"


# Says how often it was told, and ends a moment after the first time, so that a second one counts.
HANDLES = """
import os, signal, sys, time
told = []
signal.signal({signal!r}, lambda *_: told.append(1))
open({ready!r}, "w").close()
while not told:
    time.sleep(0.02)
time.sleep(0.3)
print(len(told))
sys.exit(5)
"""


def handling(tmp_path: Path, signum: signal.Signals) -> tuple[str, Path]:
    ready, program = tmp_path / "ready", tmp_path / "handles.py"
    program.write_text(HANDLES.format(signal=signum.value, ready=str(ready)))
    return f"true; exec {sys.executable} -IS {program}", ready


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_slurm_sends_to_the_step_s_first_process_reaches_the_command(
    tmp_path: Path, signum: signal.Signals
) -> None:
    command, ready = handling(tmp_path, signum)
    with start(tmp_path / "record", command, in_step=True) as process:
        wait_for(ready.exists)
        assert parse_record((tmp_path / "record").read_bytes()) == Record()
        process.send_signal(signum)
        assert wait_for_end(process) == 5
        assert process.stdout is not None and process.stdout.read() == b"1\n"
    asked = {signal.SIGTERM: "TERM", signal.SIGHUP: "HUP"}.get(signum, "")
    assert parse_record((tmp_path / "record").read_bytes()) == Record(5, asked)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_of_a_head_on_the_edge_node_reaches_the_command_once(
    tmp_path: Path, signum: signal.Signals
) -> None:
    command, ready = handling(tmp_path, signum)
    with start(tmp_path / "record", command) as process:
        wait_for(ready.exists)
        os.killpg(process.pid, signum)
        assert wait_for_end(process) == 5
        assert process.stdout is not None and process.stdout.read() == b"1\n"


def test_ctrl_c_at_a_terminal_reaches_the_command_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, ready = handling(tmp_path, signal.SIGINT)
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    record = tmp_path / "record"
    with terminal(["bash", "-c", _wrapper(), "command.sh", str(record), command]) as shown:
        wait_for(ready.exists)
        shown.type("\x03")
        assert shown.wait() == 5
    assert shown.output.split() == ["^C1"]
    assert parse_record(record.read_bytes()) == Record(5)


def test_a_shell_at_a_terminal_has_its_job_control_and_its_exit_code(tmp_path: Path) -> None:
    record, (command, ready) = tmp_path / "record", handling(tmp_path, signal.SIGINT)
    argv = ["bash", "-c", _wrapper(), "command.sh", str(record), "true; bash --norc -i"]
    with terminal(argv) as shell:
        shell.type(f"({command})\n")
        wait_for(ready.exists)
        shell.type("\x03")
        shell.wait_for("1\r\n")
        shell.type("echo code $?\n")
        shell.wait_for("code 5")
        shell.type("exit 6\n")
        assert shell.wait() == 6
    assert "job control" not in shell.output
    assert parse_record(record.read_bytes()) == Record(6)


def test_a_folder_that_takes_nothing_keeps_no_command_from_running() -> None:
    with start("/dev/full", "echo ran; exit 3") as process:
        assert process.communicate(timeout=20)[0] == b"ran\n"
    assert process.returncode == 3


def test_an_end_that_nobody_waits_for_any_more_leaves_nothing(tmp_path: Path) -> None:
    assert wait_for_end(start(tmp_path / "record", f"rm {tmp_path}/record; exit 4")) == 4
    assert list(tmp_path.iterdir()) == []


def test_the_command_s_umask_is_its_own(tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert wait_for_end(start(tmp_path / "record", f"umask 027; touch {made}")) == 0
    assert made.stat().st_mode & 0o777 == 0o640
