"""Waiting for a cluster: for how long, through which outages, and what is said meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

from dagster_glue.jobs.link import Outage
from slurm_provider.api import RayCluster
from slurm_provider.errors import ClusterError, StartFailed
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import Transport, TransportError

FIRST_CONTACT_S = 300.0
"""An edge node boots in less."""
_SAME_AGAIN_S = 600.0
_T = TypeVar("_T")


class QueueTimeout(ClusterError):
    """The head waited in Slurm's queue for longer than it may."""


class QueueWait:
    """A wait that begins now and lasts at most ``timeout_s`` seconds; None: without limit."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._last = ""

    def note(self, words: str) -> None:
        """What it waits for now."""
        self._last = words

    def is_wanted(self) -> bool:
        return self._deadline is None or time.monotonic() < self._deadline

    def explained(self, error: ClusterError, cluster: str) -> ClusterError:
        """``error`` itself or, where it only says that the time is over, what that means."""
        if self.is_wanted() or isinstance(error, StartFailed):
            return error
        return QueueTimeout(
            f"the head of cluster {cluster!r} did not start within queue_timeout "
            f"({self._timeout_s:g} s) and was withdrawn: {self._last or error}. Give a longer "
            "queue_timeout, or ask for what starts sooner"
        )

    def timeout_of(self, what: str) -> QueueTimeout:
        """Of a wait that is over before ``what`` has answered."""
        return QueueTimeout(f"{what} gave no answer within queue_timeout ({self._timeout_s:g} s)")


class Patience:
    """Does what may be done twice until it is done: a way to Slurm that is away for a while
    changes nothing."""

    def __init__(
        self, what: str, log: Callable[[str], None], wait: QueueWait | None = None
    ) -> None:
        """``what`` does not answer, as the log is told; ``wait`` is the longest that is waited."""
        self._what = what
        self._outage = Outage(what, log, meanwhile="trying on")
        self._wait = wait or QueueWait(None)

    def insist(self, act: Callable[[], _T], within_s: float = math.inf) -> _T:
        """What ``act`` returns. Raises what it raises but for outages no longer than ``within_s``,
        and QueueTimeout when the wait is over."""
        begin = time.monotonic()
        while True:
            try:
                done = act()
            except (SlurmError, TransportError) as error:
                if not is_outage(error) or time.monotonic() - begin > within_s:
                    raise
                self._outage.failed(error)
                self._outage.wait(self._check)
            else:
                self._outage.passed()
                return done

    def _check(self) -> None:
        if not self._wait.is_wanted():
            raise self._wait.timeout_of(self._what)


def reached(transport: Transport, log: Callable[[str], None]) -> Patience:
    """Patience for what follows, once the other side has answered. Raises TransportError where it
    does not for minutes: then it is no outage but, say, another port."""
    patience = Patience(transport.label, log)
    patience.insist(transport.home, FIRST_CONTACT_S)
    return patience


def is_outage(error: BaseException) -> bool:
    """Whether the same may well succeed later."""
    return isinstance(error, (SlurmError, TransportError)) and error.transient


def await_host(
    cluster: RayCluster, node_id: str, log: Callable[[str], None], wait: QueueWait
) -> None:
    """Until the head's job runs; a connection or a Slurm that is away meanwhile changes nothing.

    Raises ClusterError when the job ended or the wait is over, and SlurmError or TransportError
    for what will not pass.
    """
    say = when_new(log)

    def show(words: str) -> None:
        wait.note(words)
        say(words)

    patience = Patience(f"Slurm, asked for the head of cluster {cluster.name},", log, wait)
    patience.insist(lambda: cluster.await_host(node_id, show, wait.is_wanted))


def when_new(log: Callable[[str], None]) -> Callable[[str], None]:
    """Say what is new; the expected start, which changes with every look, now and then."""
    said_words, said_at = "", 0.0

    def show(words: str) -> None:
        nonlocal said_words, said_at
        is_same = words.partition(" (expected")[0] == said_words.partition(" (expected")[0]
        if is_same and (words == said_words or time.monotonic() - said_at < _SAME_AGAIN_S):
            return
        said_words, said_at = words, time.monotonic()
        log(words)

    return show
