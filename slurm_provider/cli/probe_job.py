"""One short job of the site check: submit, wait, and never leave it behind."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from slurm_provider.cli.output import moment
from slurm_provider.pacing import Pace
from slurm_provider.slurm import Job, SlurmClient, SlurmError, Submission, explain
from slurm_provider.slurm.output_path import escaped_pattern

_NAME = "ray-slurm-check"
_MINUTES = "5"
_POLL_S = 0.2
_END_S = 15.0
# What would delay a job that is meant to run now.
_DELAYING = ("begin", "dependency", "deadline", "time-min")


class ProbeEnded(Exception):
    """The job is over and gave no answer."""

    def __init__(self, words: str, host: str) -> None:
        super().__init__(words)
        self.words = words
        self.host = host


class ProbeTimeout(Exception):
    """No answer in time; the message says what the job was doing."""


class ProbeJob:
    """A job that is cancelled when the ``with`` block ends, however it ends."""

    def __init__(
        self,
        client: SlurmClient,
        script: str,
        args: list[str],
        options: Mapping[str, Any],
        log: str,
    ) -> None:
        self._client = client
        self.name = f"{_NAME}-{secrets.token_hex(4)}"
        self.submission = Submission(
            script=script,
            args=args,
            options={key: value for key, value in options.items() if key not in _DELAYING},
            provider_options={
                "job-name": self.name,
                "output": escaped_pattern(log),
                "time": _MINUTES,
                "chdir": "/",
                "no-requeue": True,
            },
        )
        self._job_id: str | None = None
        self._last: Job | None = None

    def __enter__(self) -> ProbeJob:
        try:
            self._job_id = self._client.submit(self.submission).job_id
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def wait(
        self,
        look: Callable[[], dict[str, Any] | None],
        timeout_s: float,
        show: Callable[[str], None],
    ) -> dict[str, Any]:
        """Wait for the first answer that ``look`` finds; ``show`` gets the job's state in words.

        Raises ProbeEnded, ProbeTimeout, SlurmError, TransportError.
        """
        pace = Pace(asks_at_once=True)
        deadline = time.monotonic() + timeout_s
        while (answer := look()) is None:
            if pace.is_queue_due():
                self._follow(look, show)
                pace.asked_queue()
            if time.monotonic() > deadline:
                raise ProbeTimeout(self._words())
            pace.sleep()
        return answer

    def _follow(
        self, look: Callable[[], dict[str, Any] | None], show: Callable[[str], None]
    ) -> None:
        found = self._find()
        if found is None or not found.state.is_live:
            if look() is None:
                last = found or self._last
                words = "is gone" if found is None else f"ended ({found.state.name.lower()})"
                raise ProbeEnded(words, last.nodelist if last is not None else "")
            return
        self._last = found
        show(self._words())

    def _words(self) -> str:
        job = self._last
        if job is None:
            return f"job {self._job_id} was submitted"
        if not job.state.is_pending:
            return f"job {job.job_id} is {job.state.name.lower()} on {job.nodelist}"
        start = moment(job.start_time)
        expected = f" (expected start {start})" if start else ""
        return f"job {job.job_id} waits: {explain(job.reason).text}{expected}"

    def _find(self) -> Job | None:
        jobs = [job for job in self._client.queue() if job.name == self.name]
        return jobs[-1] if jobs else None

    def _end(self) -> None:
        """Cancel the job and wait until it is off its host, so that its folder can go."""
        try:
            if self._job_id is None:
                # sbatch was cut short or gave no answer: it may have been carried out.
                found = self._find()
                if found is None:
                    return
                self._job_id = found.job_id
            self._client.cancel([self._job_id])
            deadline = time.monotonic() + _END_S
            while time.monotonic() < deadline:
                found = self._find()
                if found is None or found.state.is_terminal:
                    return
                time.sleep(_POLL_S)
        except SlurmError:
            # Its time limit of a few minutes ends it; the error that led here matters more.
            return
