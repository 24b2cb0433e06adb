"""Folders in which nobody else can change or replace anything: our code, settings and secrets lie
there, and other users of the site may have been there first.

The rule itself is `job_scripts/own_folder.sh`, which jobs use as well.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass

from slurm_provider.transport import Transport

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What is wrong with a folder; both empty if all is well."""

    problem: str = ""
    """Somebody else can change or replace what is in it: who and where, as a clause."""
    error: str = ""
    """It could not be made or looked at, in the system's words."""


def refusal(problem: str) -> str:
    """A sentence for the user, to follow the folder's name."""
    return (
        f"{problem}, so another user could run commands as you; choose a folder that nobody but "
        "you and root can replace, such as one in your home, or close what is yours (chmod go-w)"
    )


def script() -> bytes:
    """The shell functions, to be put before a script that uses them."""
    found = pkgutil.get_data("slurm_provider", "job_scripts/own_folder.sh")
    assert found is not None
    return found


def look(transport: Transport, folder: str, *names: str) -> Answer:
    """Look at a folder, and at those of ``names`` that exist in it, by one command; if it does not
    exist, at where it would be made. Raises TransportError."""
    return _ask(transport, 'look_own_folder "$@"\n', folder, *names)


def make(transport: Transport, folder: str, *names: str) -> Answer:
    """The same, and make what is missing: the folder, and those names that end in a slash, mode
    0700. Raises TransportError."""
    return _ask(transport, 'make_own_folder "$@"\n', folder, *names)


def _ask(transport: Transport, command: str, *arguments: str) -> Answer:
    done = transport.run(
        ["sh", "-s", "--", *arguments], stdin=script() + command.encode(), timeout_s=_TIMEOUT_S
    )
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Answer(error=words[-1].rpartition(": ")[2])
    return Answer(problem=done.stdout.strip())
