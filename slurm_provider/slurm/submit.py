"""sbatch: its argv, and what its answers mean (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slurm_provider.slurm.hetjob import MAX_COMPONENTS, Component, carried_over
from slurm_provider.slurm.job_ids import format_ranges
from slurm_provider.slurm.options import check_provider_options, to_argv, validate
from slurm_provider.slurm.queue import EPOCH_TIMES


@dataclass(frozen=True)
class Submission:
    """One sbatch: a script and its options.

    ``options`` are a user's and are validated again here, so nothing reaches sbatch unchecked;
    ``provider_options`` may be any option and win. Every job is one task on one host.
    ``array_tasks`` are the task ids of an array job; None is a single job.
    ``more_components`` make it a heterogeneous job, which starts as a whole; its first component
    is asked for by the submission's own options, and only there the script is run.
    """

    script: str
    args: Sequence[str] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    provider_options: Mapping[str, object] = field(default_factory=dict)
    array_tasks: Sequence[int] | None = None
    more_components: Sequence[Component] = ()


@dataclass(frozen=True)
class Submitted:
    """Slurm's answer to a submission."""

    job_id: str
    """Of the job, or of the whole array or heterogeneous job."""
    array_tasks: tuple[int, ...] | None = None
    components: int = 1

    @property
    def job_ids(self) -> tuple[str, ...]:
        """The ids squeue will list: the tasks of an array, the components, or the job."""
        if self.array_tasks is not None:
            return tuple(f"{self.job_id}_{task}" for task in self.array_tasks)
        if self.components > 1:
            return tuple(f"{self.job_id}+{number}" for number in range(self.components))
        return (self.job_id,)


@dataclass(frozen=True)
class Verdict:
    """What `sbatch --test-only` thinks of a submission."""

    accepted: bool
    expected_start: float | None
    """Epoch seconds; a guess of Slurm's, sometimes years away when a queue has no time limits."""
    words: str
    """Slurm's own words."""


def submit_argv(submission: Submission) -> list[str]:
    """The command that submits. Raises OptionError, or ValueError for an empty array, or for
    components that cannot be (see hetjob.py)."""
    return [*_CLEAN_ENV, "sbatch", "--parsable", "--export=ALL", *_request_argv(submission)]


def test_only_argv(submission: Submission) -> list[str]:
    """The command that asks whether a submission could ever run. Raises as ``submit_argv``.

    It submits nothing, though Slurm uses up a job id.
    """
    return [*EPOCH_TIMES, "sbatch", "--test-only", *_request_argv(submission)]


def parse_submitted(
    stdout: str, array_tasks: Sequence[int] | None = None, components: int = 1
) -> Submitted | None:
    """The job id in `--parsable` output (``123`` or ``123;cluster``), or None.

    A site's job_submit plug-in or wrapper may print lines of its own before it.
    """
    for line in reversed(stdout.splitlines()):
        match = _PARSABLE.fullmatch(line.strip())
        if match is not None:
            tasks = None if array_tasks is None else tuple(array_tasks)
            return Submitted(match["job_id"], tasks, components)
    return None


def parse_expected_start(text: str) -> float | None:
    """The expected start in the answer of ``test_only_argv``, in epoch seconds.

    Only a part of the sentence is matched: Slurm 25.05 put a stray word into it.
    """
    match = _START.search(text)
    return float(match["epoch"]) if match is not None else None


def _request_argv(submission: Submission) -> list[str]:
    first = dict(submission.provider_options)
    if submission.array_tasks is not None:
        if not submission.array_tasks or min(submission.array_tasks) < 0:
            raise ValueError(f"{submission.array_tasks!r} are not the task ids of an array")
        if submission.more_components:
            raise ValueError("Slurm has no arrays of heterogeneous jobs")
        first["array"] = format_ranges(submission.array_tasks)
    if len(submission.more_components) >= MAX_COMPONENTS:
        raise ValueError(f"a heterogeneous job has {MAX_COMPONENTS} components at most")
    found = carried_over([submission.options, *(c.options for c in submission.more_components)])
    if found is not None:
        raise ValueError(f"sbatch would carry {found.option!r} to component {found.target}")
    words = _options_argv(submission.options, first)
    for component in submission.more_components:
        words += [":", *_options_argv(component.options, component.provider_options)]
    return [*words, submission.script, *submission.args]


def _options_argv(
    options: Mapping[str, object], provider_options: Mapping[str, object]
) -> list[str]:
    own = check_provider_options({"nodes": 1, "ntasks": 1, **provider_options})
    return to_argv({**validate(options, "sbatch options"), **own})


# sbatch copies its own environment into the job, so it gets a short one. Not by --export=LIST, NIL
# or NONE: with these slurmd fetches a login environment by `su - user` (SLURM_GET_USER_ENV, seen
# on 22.05), which takes seconds and holds jobs where it fails.
_CLEAN_ENV = (
    "sh",
    "-c",
    'exec env -i HOME="$HOME" USER="$USER" LOGNAME="${LOGNAME:-$USER}" SHELL="${SHELL:-/bin/sh}" '
    'PATH="$PATH" LC_ALL=C ${SLURM_CONF:+SLURM_CONF="$SLURM_CONF"} "$@"',
    "sh",
)
_PARSABLE = re.compile(r"(?P<job_id>[0-9]+)(?:;[\w.-]+)?")
_START = re.compile(r"to start at (?P<epoch>[0-9]{1,12})(?:\s|$)")
