"""What a worker says when Slurm tells it to leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_provider.agent.job_end import JobEnd, ask_end, drain_reason
from tests.slurm_provider.fake_slurm.programs import SlurmPrograms

NOW, LEAD_S = 1_800_000_000.0, 90.0


@pytest.mark.parametrize(
    ("end", "word", "left_s"),
    [
        (JobEnd(NOW + 90), "time limit is near", 85),
        (JobEnd(NOW + 180), "time limit is near", 175),  # the signal may come a minute early
        (JobEnd(NOW + 3), "time limit is near", 5),
        (JobEnd(NOW - 600), "time limit is near", 85),  # lengthened, and Slurm does not answer
        (JobEnd(NOW + 7200), "preemption, or the limit was changed", 85),
        (JobEnd(NOW + 60, NOW + 60), "time limit is near", 55),
        (JobEnd(NOW + 60, NOW + 7200), "(preemption)", 55),
        (JobEnd(NOW + 7200, NOW + 7200), "preemption, or", 85),
        (JobEnd(None), "announced", 85),
    ],
)
def test_it_says_what_it_knows(end: JobEnd, word: str, left_s: int) -> None:
    why, remaining_s = drain_reason(end, NOW, LEAD_S)
    assert word in why
    assert remaining_s == left_s


def test_slurm_is_asked_only_about_an_end_that_the_signal_does_not_fit() -> None:
    fitting = [left_s for left_s in (-600, 3, 30, 90, 200, 7200)
               if not JobEnd(NOW + left_s).is_doubtful(NOW, LEAD_S)]  # fmt: skip
    assert fitting == [30, 90, 200]
    assert JobEnd(None).is_doubtful(NOW, LEAD_S)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmPrograms:
    programs = SlurmPrograms(tmp_path)
    monkeypatch.setenv("PATH", f"{programs.bin}:/usr/bin:/bin")
    return programs


def test_slurm_tells_the_end_and_the_limit_of_now(slurm: SlurmPrograms) -> None:
    slurm.add_job("another", "8", end="5000")
    slurm.add_job("ours", "9_4", raw_id="13", start="1000", end="1600", limit="0:20:00")
    assert ask_end("13") == JobEnd(1600.0, 2200.0)
    slurm.add_job("endless", "14", limit="UNLIMITED")
    assert ask_end("14") == JobEnd(None, None)


def test_no_answer_is_none(slurm: SlurmPrograms) -> None:
    assert ask_end("13") is None
    slurm.answer("squeue", stderr="slurm_load_jobs error: Unable to contact", rc=1)
    assert ask_end("13") is None
    slurm.remove("squeue")
    assert ask_end("13") is None
