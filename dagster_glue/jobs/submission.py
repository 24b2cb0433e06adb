"""A job's name, made of the step it belongs to, and what a retried step does with it (pure).

Ray refuses a second job of the same name. So a name that any process can work out again from run,
step and attempt makes a submission safe to repeat when its answer was lost, and lets a step that
is started anew find the job of the one before.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dagster_glue.jobs.client import JobRecord
from dagster_glue.jobs.payload import Payload

_STEP_CHARACTERS = 48
DIGEST_KEY = "dagster_glue_payload"
"""Ray job metadata: which payload it runs."""


@dataclass(frozen=True)
class StepCall:
    """One call from one step: what a submission belongs to."""

    run_id: str
    step_key: str
    attempt: int
    """Dagster's retry number, from 0."""
    call: int
    """How many calls this step made before; the same in each attempt."""


def submission_id(call: StepCall) -> str:
    """Letters, digits, ``_`` and ``-`` only: it becomes file names on the head."""
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", call.step_key).strip("-")[:_STEP_CHARACTERS]
    if slug != call.step_key:
        slug += "-" + hashlib.sha256(call.step_key.encode()).hexdigest()[:8]
    return f"{call.run_id}-{slug}-{call.call}-{call.attempt}"


def payload_digest(
    payload: Payload, package_uri: str | None, extras: Mapping[str, Any] | None = None
) -> str:
    """``CODE-INPUTS``: of the code that runs, and of what it is given."""
    code = [list(payload.command), package_uri or payload.working_dir]
    inputs = [dict(extras or {}), dict(payload.env_vars), dict(payload.runtime_env)]
    return f"{_digest(code)}-{_digest(inputs)}"


class Choice(Enum):
    """What to do about a job of an earlier attempt."""

    ADOPT = "adopt"
    REPLACE = "replace"
    """It still runs other code: stop it, then start a new one."""
    IGNORE = "ignore"


def choose(record: JobRecord, digest: str, *, is_complete: bool) -> Choice:
    """``is_complete``: the job opened and closed Pipes, as far as can be known."""
    recorded = record.metadata.get(DIGEST_KEY, "")
    if not record.is_terminal:
        # Inputs may hold a time or the like, for which no work of hours is thrown away.
        same_code = recorded.partition("-")[0] == digest.partition("-")[0]
        return Choice.ADOPT if same_code else Choice.REPLACE
    # A success that the last attempt turned down would be turned down again.
    adoptable = record.status == "SUCCEEDED" and recorded == digest and is_complete
    return Choice.ADOPT if adoptable else Choice.IGNORE


def free_id(call: StepCall, taken: Sequence[str]) -> str:
    """The id of this attempt; numbered on where a restarted attempt's job is over already."""
    return next(name for name in numbered(submission_id(call)) if name not in taken)


def _digest(parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def numbered(name: str) -> Iterator[str]:
    """The name itself, then numbered on."""
    yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"
