"""What is shown while a node waits in Slurm's queue."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from slurm_provider import command_runner
from slurm_provider.access import NodeAccess
from slurm_provider.cluster import Cluster
from slurm_provider.command_runner import SlurmCommandRunner
from slurm_provider.fleet.ledger import Node
from slurm_provider.head_wait import StatusLine, waiting_words
from slurm_provider.slurm import Job, JobState, SlurmError, SlurmMissing, SlurmUnavailable
from slurm_provider.transport import TransportError

NOON = time.mktime((2026, 11, 23, 12, 0, 0, 0, 0, -1))


def node(
    job_id: str, reason: str = "Priority", start: float | None = None, partition: str = "compute"
) -> Node:
    job = Job(job_id, "1", JobState.PENDING, reason, partition, "", None, start, None, None, 1, "x")
    return Node(job_id, "cpu", "worker", "launch", 0, job=job)


def test_a_job_waits_with_its_own_reason_and_expected_start() -> None:
    words = waiting_words(node("42", "Priority", NOON), [node("41", "PartitionDown")])
    assert words.startswith("job 42 waits in partition compute: ")
    assert words.endswith("(expected start 23 Nov 12:00)")


@pytest.mark.parametrize("reason", ["PartitionDown", "QOSMaxJobsPerUserLimit", "JobHeldUser"])
def test_a_heterogeneous_job_waits_for_the_component_that_is_hardest_to_have(reason: str) -> None:
    head, other = node("106+0", "Resources", NOON), node("106+1", reason, partition="gpu")
    words = waiting_words(head, [head, other, node("99+1", "JobHeldAdmin")])
    assert words.startswith("job 106+1 waits in partition gpu: ")


def test_a_heterogeneous_job_starts_when_its_last_component_can() -> None:
    head, other = node("106+0", start=NOON), node("106+1", start=NOON + 3600)
    assert waiting_words(head, [head, other]).endswith("(expected start 23 Nov 13:00)")
    other = node("106+1", start=None)
    assert "expected start" not in waiting_words(head, [head, other])


def test_a_pipe_gets_one_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    line = StatusLine()
    for words in ("waits", "waits", "runs", "runs", "waits"):
        line.show(words)
    line.end()
    assert capsys.readouterr().out == "  waits\n  runs\n  waits\n"


def test_a_terminal_gets_all_words_kept_fresh_in_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    line = StatusLine()
    for words in ("waits", "waits", "waits until tomorrow at noon", "runs"):
        line.show(words)
    line.end()
    shown = capsys.readouterr().out.split("\r\x1b[J")
    # One row is replaced by two; then the cursor goes up to the first of them.
    assert shown == ["", "  waits", "  waits until\n  tomorrow at noon\x1b[1A", "  runs\n"]


class TestAnOutageWhileRayUpWaits:
    """`ray up` waits for days; a controller that restarts meanwhile changes nothing."""

    def wait(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *errors: SlurmError | TransportError
    ) -> None:
        left = list(errors)

        def wait_ready(*_: object) -> None:
            if left:
                raise left.pop(0)

        monkeypatch.setattr(NodeAccess, "wait_ready", wait_ready)
        monkeypatch.setattr(command_runner, "_ASK_AGAIN_S", 0.0)
        section = {"type": "external", "cluster_dir": str(tmp_path)}
        SlurmCommandRunner(Cluster(section, "demo"), "head-0")._wait()
        assert left == []

    def test_what_may_pass_is_said_and_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        cut = TransportError("the connection was cut", transient=True)
        self.wait(tmp_path, monkeypatch, SlurmUnavailable("squeue: timed out"), cut)
        assert [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()] == [
            "timed out", "the connection was cut"
        ]  # fmt: skip

    def test_what_does_not_pass_ends_the_wait(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(SlurmMissing):
            self.wait(tmp_path, monkeypatch, SlurmMissing("squeue is not installed"))
