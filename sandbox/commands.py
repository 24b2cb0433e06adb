"""Run one short system command and turn its failure into a sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from .errors import SandboxError

DAEMON_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run_command(
    argv: Sequence[str],
    *,
    text_in: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> str:
    """The command's standard output. Raises SandboxError with its own words if it fails."""
    finished = attempt(argv, text_in=text_in, env=env, timeout_s=timeout_s)
    if finished.returncode != 0:
        words = (finished.stderr or finished.stdout).strip() or f"exit code {finished.returncode}"
        raise SandboxError(f"`{' '.join(argv)}` failed: {words}")
    return finished.stdout


def attempt(
    argv: Sequence[str],
    *,
    text_in: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run the command; its failure is the caller's to judge. Raises SandboxError if it hangs."""
    clean_env = {"PATH": DAEMON_PATH, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **(env or {})}
    try:
        return subprocess.run(
            argv,
            input=text_in or "",
            capture_output=True,
            text=True,
            env=clean_env,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        raise SandboxError(f"The program {argv[0]} is not installed.") from None
    except subprocess.TimeoutExpired:
        raise SandboxError(f"`{' '.join(argv)}` did not answer within {timeout_s:.0f} s.") from None
