"""The way to a cluster's job API through outages: try, back off, open it anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from dagster_glue.clusters.base import ClusterAccess, JobsConnection
from dagster_glue.jobs.client import JobsApi, NoAnswer
from dagster_glue.jobs.errors import JobRefused
from slurm_provider.errors import ClusterError
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import TransportError

MAY_PASS = (OSError, TransportError, SlurmError, ClusterError)
"""What an outage looks like; NoAnswer is an OSError."""

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 15.0
_POLL_S = 0.2
_SAID_AFTER_S = 5.0
_SAID_EVERY_S = 120.0
TOKEN_REFUSED = (401, 403)
_TOKEN_TRIED_S = 60.0  # a head that was just started anew has a new one

T = TypeVar("T")


class Outage:
    """Since when something does not answer, when to try again, and what is said about it."""

    def __init__(
        self,
        what: str,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        meanwhile: str = "trying on, the job is left alone",
    ) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._say = say
        self._clock = clock
        self._since: float | None = None
        self._delay = _FIRST_DELAY_S
        self._next = 0.0
        self._said: float | None = None

    @property
    def duration_s(self) -> float:
        """0 while it answers."""
        return 0.0 if self._since is None else self._clock() - self._since

    @property
    def is_due(self) -> bool:
        return self._since is None or self._clock() >= self._next

    def failed(self, error: BaseException) -> None:
        now = self._clock()
        if self._since is None:
            self._since, self._delay = now, _FIRST_DELAY_S
        self._next = now + self._delay
        self._delay = min(_LONGEST_DELAY_S, self._delay * 2)
        started = now - self._since >= _SAID_AFTER_S and self._said is None
        if started or (self._said is not None and now - self._said >= _SAID_EVERY_S):
            self._said = now
            self._say(
                f"{self._what} has not answered for {now - self._since:.0f} s ({error}); "
                f"{self._meanwhile}"
            )

    def wait(self, check: Callable[[], None]) -> None:
        """Until the next try is due; ``check`` may end it by raising."""
        while not self.is_due:
            check()
            time.sleep(_POLL_S)

    def passed(self) -> None:
        if self._said is not None:
            self._say(f"{self._what} answers again after {self.duration_s:.0f} s")
        self._since, self._said = None, None


class JobsLink:
    """A job API that may be away for a while. For use by one thread."""

    def __init__(
        self,
        cluster: ClusterAccess,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._connection: JobsConnection | None = None
        self.outage = Outage(f"Ray on cluster {cluster.cluster_id}", say, clock)

    def attempt(self, ask: Callable[[JobsApi], T]) -> T | None:
        """Ask once, if it is time to; None means that there is no answer now.

        Raises ClusterGone, JobRefused for a token that Ray goes on refusing, and what ``ask``
        raises besides an outage.
        """
        if not self.outage.is_due:
            return None
        try:
            answer = ask(JobsApi(self._opened()))
        except NoAnswer as error:
            if error.status is None or error.status in TOKEN_REFUSED:
                self.close()  # the next one also reads the token anew
            self.outage.failed(error)
            if error.status in TOKEN_REFUSED and self.outage.duration_s > _TOKEN_TRIED_S:
                raise JobRefused(
                    f"Ray on cluster {self._cluster.cluster_id} does not take our token ({error}): "
                    "is it another cluster than the one that was made?"
                ) from None
            return None
        except MAY_PASS as error:
            self.close()
            self.outage.failed(error)
            return None
        self.outage.passed()
        return answer

    def insist(self, ask: Callable[[JobsApi], T], check: Callable[[], None]) -> T:
        """Ask until there is an answer. ``check`` is called often and may end it by raising."""
        while True:
            check()
            answer = self.attempt(ask)
            if answer is not None:
                return answer
            self.outage.wait(check)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except MAY_PASS:
                pass  # what led nowhere need not be closed in order

    def _opened(self) -> JobsConnection:
        if self._connection is not None and not self._connection.is_alive():
            self.close()
        if self._connection is None:
            self._connection = self._cluster.open_jobs()
        return self._connection
