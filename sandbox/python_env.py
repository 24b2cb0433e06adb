"""Which Python environment the sandbox's users get on their PATH."""

from __future__ import annotations

import sys
from pathlib import Path

from .errors import SandboxError
from .layout import is_shared


def existing_environment(wanted: str | None) -> str | None:
    """The folder the caller named. Raises SandboxError if it has no `bin/` or hosts lack it."""
    if wanted is None:
        return None
    prefix = Path(wanted).absolute()
    if not (prefix / "bin").is_dir():
        raise SandboxError(f"--env {wanted}: there is no folder {prefix}/bin.")
    if not is_shared(prefix):
        raise SandboxError(f"--env {wanted}: each host has its own {prefix.parents[-2]}.")
    return str(prefix)


def own_environment() -> str | None:
    """The virtual environment this program runs in, if others may enter it."""
    if sys.prefix == sys.base_prefix or not is_shared(Path(sys.prefix)):
        return None
    program = Path(sys.prefix, "bin", "python3").resolve()
    folders = [Path(sys.prefix, "bin"), *Path(sys.prefix, "bin").parents, *program.parents]
    return sys.prefix if all(folder.stat().st_mode & 0o001 for folder in folders) else None
