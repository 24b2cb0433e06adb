"""The one place where an argument vector becomes a shell's command line.

SSH knows no argument vectors: sshd hands one string to the user's login shell. That shell may be
bash, zsh, tcsh or fish, which disagree about backslashes, ``!`` and line breaks even inside single
quotes, and about a word that begins with ``=`` (zsh: the path of a program) or ``%`` (fish: a
process). So the login shell gets no more than ``exec /bin/sh -c '<fixed text>' sh <arguments>``,
and arguments that the shells read differently travel in base64.
"""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Sequence

from slurm_provider.transport.env import DROPPED_PREFIXES, KEPT

OUTPUT_STARTS = "--- the output of the command starts here ---"
"""Printed on stdout before a command's own: what a shell profile printed stands above it."""

PROCESS_ID = "--- the process id of the command is "
"""Printed on stderr, with the number, before the command's own."""

NOT_FOUND = "command not found on this side"
"""Starts the line on stderr that tells a missing command from a command's own exit code 127."""

MAX_COMMAND_BYTES = 120_000
"""Linux takes at most 128 KiB in one argument (MAX_ARG_STRLEN), and this is one argument."""

# Written without ' \ ! and line breaks. The prefix is matched there because only the remote side
# knows its variables: `env -u` would need their names, and a login shell's profile sets them after
# anything the client could send. One `env` and one `grep`, about 2 ms.
_SCRUB = (
    f'for v in $(env | grep -oE "^({"|".join(DROPPED_PREFIXES)})_[A-Za-z0-9_]*="); '
    f'do v=${{v%=}}; [ "$v" = {KEPT} ] || unset "$v"; done; '
)
_C_LOCALE = "LC_ALL=C; export LC_ALL; "
_CHECK = (
    f'command -v "$1" >/dev/null 2>&1 || {{ echo "{NOT_FOUND}: $1 (PATH=$PATH)" >&2; exit 127; }}; '
)
_EXEC = 'exec "$@"'
_OVERTIME_S = 2.0  # the near side gives up first; this one is for when it cannot say so any more
_SAME_IN_EVERY_SHELL = re.compile(r"[ -~]*")
_READ_DIFFERENTLY = re.compile(r"^[=%]|['\\!]")


def shell_line(argv: Sequence[str]) -> str:
    """``argv`` as one line for a POSIX shell. Raises ValueError for NUL in an argument."""
    if any("\0" in argument for argument in argv):
        raise ValueError("an argument cannot contain a NUL character")
    return shlex.join(argv)


def line_for_run(argv: Sequence[str], timeout_s: float) -> str:
    """A line for any login shell: the environment of :mod:`.env`, OUTPUT_STARTS, the command.

    coreutils' ``timeout`` ends the command even when the connection is lost in the meantime.

    Raises ValueError for an empty ``argv``, a NUL in it, or more than MAX_COMMAND_BYTES.
    """
    limited = f'exec timeout -k 5 {timeout_s + _OVERTIME_S:.3f} "$@"'
    return _line(argv, f'{_SCRUB}{_C_LOCALE}echo "{OUTPUT_STARTS}"; {_CHECK}{limited}')


def line_for_popen(argv: Sequence[str]) -> str:
    """The same for a command that runs on: it says PROCESS_ID first. Raises ValueError."""
    return _line(argv, f'{_SCRUB}{_C_LOCALE}echo "{PROCESS_ID}$$" >&2; {_CHECK}{_EXEC}')


def line_for_call(argv: Sequence[str]) -> str:
    """The same for a command that talks to a person: the locale is kept. Raises ValueError."""
    return _line(argv, f"{_SCRUB}{_CHECK}{_EXEC}")


def _line(argv: Sequence[str], script: str) -> str:
    if not argv:
        raise ValueError("no command given")
    arguments = shell_line(argv)
    if not all(_same_in_every_shell(argument) for argument in argv):
        encoded = base64.b64encode(arguments.encode("utf-8", "surrogateescape")).decode("ascii")
        script = f'eval "set -- $(echo {encoded} | base64 -d)"; {script}'
        arguments = ""
    line = f"exec /bin/sh -c '{script}' sh {arguments}".rstrip()
    if len(line) > MAX_COMMAND_BYTES:
        raise ValueError(
            f"the command line of {argv[0]!r} is too long ({len(line)} bytes, "
            f"at most {MAX_COMMAND_BYTES}): pass the data on standard input"
        )
    return line


def _same_in_every_shell(argument: str) -> bool:
    printable = _SAME_IN_EVERY_SHELL.fullmatch(argument) is not None
    return printable and _READ_DIFFERENTLY.search(argument) is None
