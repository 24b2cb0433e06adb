"""The environment in which commands start.

Slurm's commands read defaults from their environment (``SBATCH_PARTITION``, ``SQUEUE_FORMAT``,
``SLURM_CLUSTERS``, …; see "INPUT ENVIRONMENT VARIABLES" in each man page). Left over from a job or
a shell profile, they change what a command does and what it prints. ``RAY_*`` of the submitter
would reach every Ray node that a command starts.
"""

from __future__ import annotations

from collections.abc import Mapping

DROPPED_PREFIXES = (
    "SLURM",
    "SBATCH",
    "SRUN",
    "SALLOC",
    "SQUEUE",
    "SACCT",
    "SINFO",
    "SCANCEL",
    "SCONTROL",
    "SPANK",
    "RAY",
)
"""Variables named ``<prefix>_…`` are dropped."""

KEPT = "SLURM_CONF"
"""Says which cluster this is; without it Slurm's commands may find no configuration at all."""


def scrubbed(environ: Mapping[str, str], *, keep_locale: bool = False) -> dict[str, str]:
    """A copy of ``environ`` for a command: nothing that steers Slurm or Ray, and ``LC_ALL=C``.

    ``keep_locale`` leaves the locale alone, for commands that talk to a person.
    """
    dropped = tuple(f"{prefix}_" for prefix in DROPPED_PREFIXES)
    kept = {
        name: value
        for name, value in environ.items()
        if name == KEPT or not name.startswith(dropped)
    }
    if not keep_locale:
        kept["LC_ALL"] = "C"
    return kept
