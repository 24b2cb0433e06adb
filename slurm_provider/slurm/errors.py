"""What can go wrong between this program and Slurm.

Every message carries the command's name and Slurm's own words; ``transient`` says whether the
same call may succeed later without anybody changing anything.
"""

from __future__ import annotations


class SlurmError(Exception):
    """A Slurm command did not do what was asked; the message names command, cause, next step."""

    transient: bool = False


class SlurmUnavailable(SlurmError):
    """Slurm or the way to it did not answer, so the outcome is unknown: nothing is proved gone.

    After a submission this means "perhaps submitted": look the job up by name before a retry.
    """

    transient = True


class SlurmLimited(SlurmError):
    """Slurm is up but accepts no more for now (job limits, partition closed): retry later."""

    transient = True


class SlurmRefused(SlurmError):
    """Slurm said no, and will say no again until the request or the site changes."""


class ArrayRefused(SlurmRefused):
    """Slurm said no to a job array as such; the same nodes as single jobs may be taken."""


class SlurmMissing(SlurmError):
    """The Slurm command is not installed, or not on PATH, where the transport runs commands."""


class SlurmOutputError(SlurmError):
    """Slurm printed something this program cannot read; the listing is unknown, not shorter."""

    transient = True  # most often it was cut on its way


class AccountingUnavailable(SlurmError):
    """This site keeps no accounting records (no slurmdbd), so `sacct` can never answer."""
