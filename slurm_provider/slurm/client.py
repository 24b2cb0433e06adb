"""Slurm's commands as methods: one method, one Slurm command.

What a command line looks like and what its text means is decided by pure functions next door;
here they are run, and failures become exceptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from slurm_provider.slurm.accounting import JobRecord, history_argv, parse_history, records_by_id
from slurm_provider.slurm.errors import (
    AccountingUnavailable,
    ArrayRefused,
    SlurmError,
    SlurmMissing,
    SlurmRefused,
    SlurmUnavailable,
)
from slurm_provider.slurm.job_ids import chunks, fold_job_ids, is_job_id
from slurm_provider.slurm.messages import (
    command_error,
    is_about_arrays,
    is_gone,
    looks_like_error,
    slurm_words,
    unknown_outcome,
)
from slurm_provider.slurm.queue import Job, parse_queue, queue_argv
from slurm_provider.slurm.site import (
    Accounts,
    Partition,
    SiteConfig,
    accounts_argv,
    config_argv,
    lifting_qos_argv,
    parse_accounts,
    parse_config,
    parse_lifting_qos,
    parse_partitions,
    partitions_argv,
)
from slurm_provider.slurm.submit import (
    Submission,
    Submitted,
    Verdict,
    parse_expected_start,
    parse_submitted,
    submit_argv,
    test_only_argv,
)

if TYPE_CHECKING:
    from slurm_provider.transport import Completed

TIMEOUT_S = 30.0
# A busy controller answers sbatch last: it writes the job to disk first.
SUBMIT_TIMEOUT_S = 60.0
# sacct asks a database that may have to look through years.
HISTORY_TIMEOUT_S = 60.0
_COMMANDS = ("sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo", "sacctmgr", "id")
# Words of argv, far below what Linux and SSH servers accept.
_CANCEL_CHUNK = 1000
_HISTORY_CHUNK = 200


class CommandRunner(Protocol):
    """The part of a Transport that is needed here."""

    @property
    def label(self) -> str: ...
    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed: ...


class SlurmClient:
    """The user's view of Slurm, where ``transport`` runs commands.

    ``clusters`` names the one Slurm cluster to talk to, for sites with several; None is the
    local one.
    Every method raises SlurmUnavailable if Slurm or the way to it gave no answer, SlurmMissing if
    the command is not there, SlurmRefused for a clear no, and another SlurmError for the rest.
    """

    def __init__(
        self, transport: CommandRunner, clusters: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._transport = transport
        self._clusters = clusters
        self._timeout_s = timeout_s

    def submit(self, submission: Submission) -> Submitted:
        """Submit one job, one array or one heterogeneous job.

        After SlurmUnavailable it may have been submitted nevertheless (seen on a paused 22.05:
        "Socket timed out", and the job ran): look it up by name before trying again.
        Raises also OptionError, SlurmLimited if the site takes no more jobs for now, and
        ArrayRefused if what it does not want is the array.
        """
        done = self._run(submit_argv(submission), max(self._timeout_s, SUBMIT_TIMEOUT_S))
        if done.returncode != 0:
            error = self._error("sbatch", done)
            if submission.array_tasks is not None and is_about_arrays(error):
                raise ArrayRefused(str(error))
            raise error
        components = 1 + len(submission.more_components)
        submitted = parse_submitted(done.stdout, submission.array_tasks, components)
        if submitted is None:
            raise SlurmUnavailable(
                f"sbatch ({self._transport.label}) claims success but names no job: "
                f"{slurm_words(done.stdout + done.stderr)!r}. Look for the job by name in squeue"
            )
        return submitted

    def test_only(self, submission: Submission) -> Verdict:
        """Ask whether a submission can ever run, and when; nothing is submitted.

        Raises OptionError, and SlurmLimited if a quota forbids it only for now.
        """
        argv = test_only_argv(submission)
        done = self._run(argv, max(self._timeout_s, SUBMIT_TIMEOUT_S))
        words = slurm_words(done.stderr)
        if done.returncode == 0:
            return Verdict(True, parse_expected_start(done.stderr), words)
        error = self._error("sbatch --test-only", done)
        if not isinstance(error, SlurmRefused):
            raise error
        return Verdict(False, None, words)

    def queue(self, job_id: str | None = None) -> list[Job]:
        """All jobs of the user, or one, finished ones while squeue still shows them (MinJobAge).

        The listing is whole or there is an exception, also for a job that it knows no more.
        """
        done = self._run(queue_argv(self._clusters, job_id))
        if done.returncode != 0 or (not done.stdout.strip() and looks_like_error(done.stderr)):
            raise self._error("squeue", done)
        return parse_queue(done.stdout)

    def cancel(self, job_ids: Iterable[str]) -> None:
        """Cancel jobs, array tasks or whole arrays by one scancel (per 1,000 words of it).

        Jobs that are over or unknown are no error. All are asked for even if some are refused;
        then the refusal is raised.
        """
        folded = fold_job_ids(job_ids)
        wrong = [job_id for job_id in folded if not is_job_id(job_id)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not a Slurm job id")
        failures = [
            done
            for part in chunks(folded, _CANCEL_CHUNK)
            if self._cancel_failed(done := self._run(self._scancel_argv(part)))
        ]
        if failures:
            raise self._error("scancel", failures[0])

    def history(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """What accounting knows of these jobs, by the ids as asked (display or raw ids).

        Ids it does not know are absent: records of the last seconds may still be on their way.
        Raises AccountingUnavailable where a site keeps no records.
        """
        # sacct finds tasks that never started only under their array's id (tried on 22.05).
        asked = list(dict.fromkeys(job_id.partition("_")[0] for job_id in job_ids))
        records: list[JobRecord] = []
        for part in chunks(asked, _HISTORY_CHUNK):
            argv = history_argv(part, self._clusters)
            done = self._run(argv, max(self._timeout_s, HISTORY_TIMEOUT_S))
            if done.returncode != 0:
                raise self._error("sacct", done)
            records.extend(parse_history(done.stdout))
        return records_by_id(records, job_ids)

    def config(self) -> SiteConfig:
        """The site's configuration."""
        return parse_config(self._checked("scontrol show config", config_argv(self._clusters)))

    def partitions(self) -> list[Partition]:
        """The partitions the user can see, with their hosts."""
        return parse_partitions(self._checked("sinfo", partitions_argv(self._clusters)))

    def accounts(self) -> Accounts:
        """The user's accounts and QOS; ``known=False`` where there is no accounting to ask."""
        user = self._checked("id", ["id", "-un"]).strip()
        try:
            return parse_accounts(self._checked("sacctmgr", accounts_argv(user)))
        except (AccountingUnavailable, SlurmMissing):
            return Accounts(known=False)

    def lifting_qos(self) -> list[str]:
        """The site's QOS that lift the time limits of partitions; none where there is no
        accounting, and so no QOS. Raises SlurmMissing where there is no sacctmgr to tell.
        """
        try:
            return parse_lifting_qos(self._checked("sacctmgr", lifting_qos_argv()))
        except AccountingUnavailable:
            return []

    def _checked(self, command: str, argv: Sequence[str]) -> str:
        done = self._run(argv)
        if done.returncode != 0:
            raise self._error(command, done)
        return done.stdout

    def _run(self, argv: Sequence[str], timeout_s: float | None = None) -> Completed:
        from slurm_provider.transport import CommandNotFound, CommandTimeout, TransportError

        command = next(word for word in argv if word in _COMMANDS)
        label = self._transport.label
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            done = self._transport.run(argv, timeout_s=limit_s)
        except CommandNotFound:
            raise SlurmMissing(_missing(command, label)) from None
        except CommandTimeout:
            raise SlurmUnavailable(
                f"{command} ({label}) did not answer within {limit_s:g} s{unknown_outcome(command)}"
            ) from None
        except TransportError as error:
            unavailable = SlurmUnavailable(
                f"{command} ({label}): {error}{unknown_outcome(command)}"
            )
            unavailable.transient = error.transient
            raise unavailable from error
        if done.returncode == 127:  # from `env`, or from the shell at the other end of SSH
            raise SlurmMissing(_missing(command, label))
        return done

    def _error(self, command: str, done: Completed) -> SlurmError:
        return command_error(command, self._transport.label, done.returncode, done.stderr)

    def _scancel_argv(self, job_ids: Sequence[str]) -> list[str]:
        clusters = [] if self._clusters is None else [f"--clusters={self._clusters}"]
        return ["scancel", *clusters, *job_ids]

    def _cancel_failed(self, done: Completed) -> bool:
        # With several ids, the exit code is that of any one of them, gone ones included.
        complaints = [line for line in done.stderr.splitlines() if line.strip()]
        if done.returncode == 0:
            return False
        return not complaints or not all(is_gone(line) for line in complaints)


def _missing(command: str, label: str) -> str:
    return (
        f"{command} is not on PATH of {label}. Run this where Slurm's commands are, "
        "or set provider.ssh to a login node that has them"
    )
