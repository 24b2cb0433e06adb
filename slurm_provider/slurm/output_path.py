"""Paths of files that Slurm opens: to sbatch and srun they are patterns (pure)."""

from __future__ import annotations


def escaped_pattern(path: str) -> str:
    """``path`` as ``--output`` takes it: ``%j`` in it would become the job's id.

    Raises ValueError for a backslash: with one, sbatch replaces nothing, not even ``%a``, and srun
    drops it (22.05).
    """
    if "\\" in path:
        raise ValueError(f"{path!r} cannot be a log of Slurm's: it contains a backslash")
    return path.replace("%", "%%")
