from __future__ import annotations

from collections.abc import Sequence

from dagster_glue.metrics.fetch import Fetched, fetch_records
from slurm_provider.slurm import (
    AccountingUnavailable,
    JobRecord,
    JobState,
    SlurmUnavailable,
    StepRecord,
)


def record(state: JobState = JobState.COMPLETED, step: JobState | None = None) -> JobRecord:
    steps = (StepRecord("batch", step or state, 0, 0, 5, 1, 1.0, 1),)
    return JobRecord("1", "1", "ray", state, 0, 0, "", 5, 1, 1.0, "n1", "compute", "a", 1.0, 2.0,
                     None if state is JobState.RUNNING else 7.0, {}, steps)  # fmt: skip


class Slurm:
    """Answers in turn, the last one for ever; its clock moves when somebody sleeps."""

    def __init__(self, *answers: dict[str, JobRecord] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.now = 0.0

    def history(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def fetch(self, *job_ids: str, still_running: bool = False) -> Fetched:
        return fetch_records(
            self, job_ids, still_running=still_running, wait_s=10, clock=lambda: self.now,
            sleep=self.sleep,
        )  # fmt: skip


def test_complete_records_are_taken_at_once() -> None:
    slurm = Slurm({"1": record()})
    assert slurm.fetch("1") == Fetched({"1": record()})
    assert slurm.now == 0


def test_records_on_their_way_are_waited_for() -> None:
    late_step = record(step=JobState.RUNNING)
    slurm = Slurm({}, {"1": late_step}, {"1": record()})
    assert slurm.fetch("1").records == {"1": record()}
    assert slurm.asked == 3


def test_the_wait_is_bounded_and_what_is_known_is_taken() -> None:
    slurm = Slurm({"1": record()})
    assert slurm.fetch("1", "2").records == {"1": record()}
    assert slurm.now <= 10
    assert slurm.asked < 10


def test_running_jobs_of_a_shared_cluster_are_not_waited_for() -> None:
    slurm = Slurm({"1": record(JobState.RUNNING)})
    assert slurm.fetch("1", still_running=True).records is not None
    assert slurm.asked == 1


def test_a_site_without_accounting_is_not_asked_twice() -> None:
    slurm = Slurm(AccountingUnavailable("no accounting here"))
    assert slurm.fetch("1") == Fetched(None, "no accounting here")
    assert slurm.asked == 1


def test_an_outage_is_waited_out() -> None:
    slurm = Slurm(SlurmUnavailable("no answer"), {"1": record()})
    assert slurm.fetch("1").records == {"1": record()}


def test_an_outage_that_lasts_leaves_the_reason() -> None:
    assert Slurm(SlurmUnavailable("no answer")).fetch("1") == Fetched(None, "no answer")


def test_an_outage_does_not_take_back_what_was_answered() -> None:
    late = record(step=JobState.RUNNING)
    assert Slurm({"1": late}, SlurmUnavailable("no answer")).fetch("1") == Fetched({"1": late})


def test_without_jobs_nobody_is_asked() -> None:
    slurm = Slurm(SlurmUnavailable("no answer"))
    assert slurm.fetch() == Fetched({})
    assert slurm.asked == 0
