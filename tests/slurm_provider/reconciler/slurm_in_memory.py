"""A Slurm that lives in a dictionary, behind the methods of SlurmClient."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from slurm_provider.fleet.identity import WORKER, parse_job_name
from slurm_provider.slurm import Job, JobState, SlurmUnavailable, Submission, Submitted
from slurm_provider.slurm.site import SiteConfig
from slurm_provider.slurm.submit import submit_argv

NO_ANSWER = SlurmUnavailable("sbatch (here): Socket timed out on send/recv operation")
SILENCE = SlurmUnavailable("squeue (here): Unable to contact slurm controller")


class SlurmInMemory:
    """Jobs wait until the test runs or ends them. Counts every command."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next_id = 100
        self._lock = threading.Lock()
        self.jobs: dict[str, Job] = {}
        self.submissions: list[Submission] = []
        self.cancelled: list[str] = []
        self.commands = 0
        # What the test may change.
        self.max_array_size = 1001
        self.answer_submit: Callable[[Submission], None] = lambda submission: None
        """May raise instead of submitting."""
        self.answer_queue: Callable[[], None] = lambda: None
        self.answer_cancel: Callable[[], None] = lambda: None
        self.starts_as = JobState.PENDING
        self.hidden: set[str] = set()
        """Ids that are left out of listings."""

    # -- SlurmClient -----------------------------------------------------------------------

    def submit(self, submission: Submission) -> Submitted:
        self.commands += 1
        submit_argv(submission)  # a real one would be checked too
        self.submissions.append(submission)
        self.answer_submit(submission)
        return self.carry_out(submission)

    def queue(self) -> list[Job]:
        self.commands += 1
        self.answer_queue()
        return [job for job in self._all() if job.job_id not in self.hidden]

    def cancel(self, job_ids: Iterable[str]) -> None:
        self.commands += 1
        self.answer_cancel()
        for job_id in job_ids:
            self.cancelled.append(job_id)
            if job_id in self.jobs and self.jobs[job_id].state.is_live:
                self.set_state(job_id, JobState.CANCELLED)

    def config(self) -> SiteConfig:
        self.commands += 1
        return SiteConfig("sim", "26.05", self.max_array_size, 300, 30, "cons_tres", True, {})

    # -- what happens there ----------------------------------------------------------------

    def carry_out(self, submission: Submission) -> Submitted:
        """What slurmctld does with an sbatch, whether or not its answer arrives."""
        options = [submission, *submission.more_components]
        with self._lock:
            first_id = self._next_id
            submitted = Submitted(str(first_id), _tasks(submission.array_tasks), len(options))
            self._next_id += len(options)
            for number, job_id in enumerate(submitted.job_ids):
                component = number if submission.more_components else 0
                self.jobs[job_id] = Job(
                    job_id=job_id,
                    raw_id=str(first_id + component),
                    state=self.starts_as,
                    reason="None",
                    partition="compute",
                    nodelist="",
                    submit_time=self._clock(),
                    start_time=None,
                    end_time=None,
                    time_limit_s=3600,
                    cpus=2,
                    name=str(options[component].provider_options["job-name"]),
                )
        return submitted

    def set_state(self, job_id: str, state: JobState, reason: str = "None") -> None:
        nodelist = "" if state.is_pending else "n1"
        with self._lock:
            job = self.jobs[job_id]
            if not job.state.is_terminal:
                self.jobs[job_id] = replace(job, state=state, reason=reason, nodelist=nodelist)

    def forget_finished(self) -> None:
        """MinJobAge has passed."""
        self.jobs = {k: job for k, job in self.jobs.items() if not job.state.is_terminal}

    def workers(self, *states: JobState) -> list[Job]:
        """Worker jobs, living ones if no state is named."""
        return [
            job
            for job in self._all()
            if (identity := parse_job_name(job.name)) is not None
            and identity.kind == WORKER
            and (job.state in states if states else job.state.is_live)
        ]

    def _all(self) -> list[Job]:
        with self._lock:
            return list(self.jobs.values())


def raising(error: BaseException) -> Callable[..., Any]:
    """For the ``answer_`` hooks."""

    def answer(*_: Any) -> None:
        raise error

    return answer


def _tasks(tasks: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if tasks is None else tuple(tasks)
