"""What Slurm's error texts mean: unknown outcome, later, or no (pure).

Source: Slurm's table of error texts (slurm_errno.c, 22.05 to 26.05) and what a 22.05 printed when
it was paused, stopped, without munge, or out of quota.
"""

from __future__ import annotations

import re

from slurm_provider.slurm.errors import (
    AccountingUnavailable,
    SlurmError,
    SlurmLimited,
    SlurmRefused,
    SlurmUnavailable,
)


def slurm_words(text: str) -> str:
    """Slurm's own words as one line, without the noise of its prefixes."""
    lines = []
    for line in text.splitlines():
        word = _PREFIX.sub("", line.strip())
        if word and word not in lines:
            lines.append(word)
    shown = "; ".join(lines)
    return shown if len(shown) <= _WORDS_LIMIT else shown[:_WORDS_LIMIT] + " ..."


def command_error(command: str, label: str, returncode: int, stderr: str) -> SlurmError:
    """The exception for a failed Slurm command; ``label`` says where it ran."""
    words = slurm_words(stderr)
    lower = words.lower()
    said = f"{command} ({label}): {words or f'ended with exit code {returncode}, saying nothing'}"
    if any(text in lower for text in _NO_ACCOUNTING):
        return AccountingUnavailable(f"{said}. This site keeps no accounting records")
    if any(text in lower for text in _MISMATCH):
        return SlurmRefused(
            f"{said}. The commands and the controller are of different versions: "
            "check PATH and SLURM_CONF, they belong together"
        )
    if not words or any(text in lower for text in _UNAVAILABLE):
        return SlurmUnavailable(said + unknown_outcome(command))
    if _is_limit(words):
        return SlurmLimited(f"{said}. Slurm may take it later")
    return SlurmRefused(said)


def unknown_outcome(command: str) -> str:
    """What to add to the message when a command that changes something gave no answer."""
    return ". It may have been done all the same" if command in ("sbatch", "scancel") else ""


def is_gone(line: str) -> bool:
    """Whether a line of scancel's stderr says no more than that the job is over."""
    return any(text in line.lower() for text in _GONE)


def is_about_arrays(error: SlurmError) -> bool:
    """Whether a refusal speaks of job arrays: Slurm's own ("Invalid job array specification", also
    for max_array_tasks) or that of a site's job_submit plug-in."""
    return isinstance(error, SlurmRefused) and _ARRAY_WORD.search(str(error)) is not None


def looks_like_error(stderr: str) -> bool:
    """Whether a command that claims success complained nevertheless."""
    return _ERROR_WORD.search(stderr) is not None


def _is_limit(words: str) -> bool:
    lower = words.lower()
    if "job violates accounting/qos policy" in lower:
        # One text for "too many jobs" and "this job is too big"; a line before it says which.
        limits = _LIMIT_NAME.findall(words)
        return not limits or any("Submit" in name or "Jobs" in name for name in limits)
    return any(text in lower for text in _LIMITED)


_WORDS_LIMIT = 1000
_PREFIX = re.compile(r"^(?:s[a-z]+: )?(?:(?:error|fatal): )?", re.ASCII)
_ERROR_WORD = re.compile(r"\b(?:error|fatal|invalid|unable|timed out|failed)\b", re.IGNORECASE)
_ARRAY_WORD = re.compile(r"\barrays?\b", re.IGNORECASE)
_LIMIT_NAME = re.compile(r"\b(?:Assoc|QOS|Max)[A-Z]\w+")
_UNAVAILABLE = (
    "socket timed out",
    "timed out establishing",
    "timed out reading",
    "timed out writing",
    "unable to contact slurm controller",
    "unable to connect to database",
    "problem talking to the database",
    "connection refused",
    "connection timed out",
    "connection reset",
    "communication connection failure",
    "communication shutdown failure",
    "message send failure",
    "message receive failure",
    "zero bytes were transmitted",
    "unexpected message received",
    "failed to open persistent connection",
    "protocol authentication error",
    "authentication credential",
    "munge encode failed",
    "standby mode",
    "shutting down",
    "rate limit exceeded",
    "resource temporarily unavailable",
    "could not establish a configuration source",
    "unable to process configuration file",
    "can't be reached now",
    "no route to host",
)
_LIMITED = (
    "temporarily unable to accept job",
    "maxjobcount limit reached",
    "system submissions disabled",
    "requested partition configuration not available now",
    "required partition not available",
    "partition in down state",
    "requested reservation not usable now",
    "required node not available",
    "requested nodes are busy",
    "licenses currently unavailable",
    "requested operation is presently disabled",
    "i/o error writing script/environment to file",
    "waiting for burst buffer",
    "job can not be altered now",
    "max powered up nodes reached",
)
_MISMATCH = ("insane message length", "incompatible versions of client and server")
_NO_ACCOUNTING = (
    "accounting storage is disabled",
    "not running a supported accounting_storage plugin",
)
_GONE = ("invalid job id specified", "already completing or completed", "job has already finished")
