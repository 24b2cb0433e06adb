"""How a payload gets its variables where no file system is shared: in a package of Ray's.

They hold the Pipes context and with it the user's ``extras``. A command line can be read by every
user of the host, and like ``env_vars`` by all who can list the cluster's jobs. A package is in
Ray's memory, then in a file of mode 0600 on the nodes that run the job.
"""

from __future__ import annotations

import io
import json
import secrets
import zipfile
from collections.abc import Mapping
from importlib import resources
from typing import Any

MODULE = "dagster_glue_start"
"""Runs the command that follows it; see driver_start.py."""

# Ray puts nothing but env_vars into a container (ray/runtime_env/runtime_env.py).
_ALONE = ("image_uri", "container")


def takes_packages(runtime_env: Mapping[str, Any]) -> bool:
    """Whether Ray takes a package beside these keys."""
    return not any(runtime_env.get(key) for key in _ALONE)


def driver_package(variables: Mapping[str, str]) -> tuple[str, bytes]:
    """Its URI, which no other job has, and the content; for ``py_modules``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        start = resources.files("dagster_glue.jobs").joinpath("driver_start.py").read_bytes()
        for name, data in (
            (f"{MODULE}.json", json.dumps(dict(variables)).encode()),
            (f"{MODULE}.py", start),
        ):
            member = zipfile.ZipInfo(name)
            member.external_attr = 0o100600 << 16
            archive.writestr(member, data)
    return f"gcs://_ray_pkg_{secrets.token_hex(20)}.zip", buffer.getvalue()
