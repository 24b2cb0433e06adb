"""Ask accounting for jobs until it knows them to their end, for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dagster_glue.metrics.usage import is_complete
from slurm_provider.slurm import AccountingUnavailable, JobRecord, SlurmError, SlurmMissing

WAIT_S = 15.0
"""Records arrive seconds after a job's last process has ended. A site that samples nothing is
waited for in vain, so this is not long."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0


class History(Protocol):
    """The part of SlurmClient that is needed here."""

    def history(self, job_ids: Sequence[str]) -> dict[str, JobRecord]: ...


@dataclass(frozen=True)
class Fetched:
    """What accounting answered."""

    records: dict[str, JobRecord] | None
    """By the ids as asked; None if it could not be asked."""
    why: str = ""
    """Why it could not be asked."""


def fetch_records(
    client: History,
    job_ids: Sequence[str],
    *,
    still_running: bool = False,
    wait_s: float = WAIT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Fetched:
    """The records of ``job_ids``, complete ones if they become so within ``wait_s`` seconds.

    ``still_running``: the cluster goes on, so only jobs that are not known at all are waited for.
    Never raises for what Slurm says: a run's result does not depend on its metrics.
    """
    if not job_ids:
        return Fetched({})
    deadline = clock() + wait_s
    pause_s = _FIRST_PAUSE_S
    fetched = Fetched(None)
    while True:
        try:
            records = client.history(job_ids)
        except (AccountingUnavailable, SlurmMissing) as error:
            return Fetched(None, str(error))
        except SlurmError as error:
            if fetched.records is None:
                fetched = Fetched(None, str(error))
        else:
            fetched = Fetched(records)
            known = [records.get(job_id) for job_id in job_ids]
            if all(r is not None and (still_running or is_complete(r)) for r in known):
                return fetched
        if clock() + pause_s > deadline:
            return fetched
        sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
