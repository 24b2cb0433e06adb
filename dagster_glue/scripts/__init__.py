"""Shell programs that run where a cluster's files are."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def shell_script(name: str) -> str:
    """The text of a program, for ``sh -c``, so that standard input is free for data."""
    return files("dagster_glue.scripts").joinpath(name).read_text()
