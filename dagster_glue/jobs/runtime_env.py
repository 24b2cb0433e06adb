"""A user's ``runtime_env``, checked as Ray would, before a cluster is asked for."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any

from dagster_glue.jobs.errors import PayloadError

_PLUGINS = "RAY_RUNTIME_ENV_PLUGINS"


def checked_runtime_env(env: Mapping[str, Any]) -> dict[str, Any]:
    """As Ray's job API takes it, with the requirement files that lie here read in.

    Raises PayloadError for what Ray would refuse or ignore.
    """
    if not env:
        return {}
    from ray.runtime_env import RuntimeEnv  # worth importing only now

    known = {name.removeprefix("_") for name in RuntimeEnv.known_fields}
    for name in env:
        if name not in known and not os.environ.get(_PLUGINS):  # Ray ignores it
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"closest: {close[0]}" if close else f"known: {', '.join(sorted(known))}"
            raise PayloadError(f"runtime_env has no key {name!r}; {hint} (a plugin's key is taken "
                               f"where {_PLUGINS} is set)")  # fmt: skip
    for module in env.get("py_modules") or ():
        if "://" not in str(module):
            raise PayloadError(
                f"runtime_env['py_modules']: {module} lies here: put it into working_dir instead"
            )
    try:
        return dict(RuntimeEnv(**env).to_dict())
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise PayloadError(f"runtime_env: {error}") from None
