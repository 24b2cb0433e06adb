"""The zip that a payload's files travel in, as Ray's ``runtime_env`` has it.

Ray unpacks it once per host, in the folder where the driver and all its tasks run. What is left
out, and how large it may be, are Ray's own rules, applied by Ray's own code.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from inspect import signature
from pathlib import Path

from dagster_glue.jobs.errors import PayloadError
from dagster_glue.jobs.payload import Payload

# ray/_private/ray_constants.py: a package is one value in the GCS (GRPC_CPP_MAX_MESSAGE_SIZE), and
# before that one request to the dashboard (DASHBOARD_CLIENT_MAX_SIZE; Ray 2.60 refused 101 MiB).
_MAX_BYTES_DEFAULT = 512 * 1024 * 1024
_MAX_REQUEST_BYTES = 100 * 1024 * 1024
_MAX_BYTES_VARIABLE = "RAY_max_grpc_message_size"
_LISTED = 5


def build_package(payload: Payload, path: str) -> str | None:
    """Write the zip to ``path`` and return its URI; None if there is nothing to upload.

    The URI is made of the content, so the same files are uploaded once per cluster.

    Raises PayloadError for a package that Ray would refuse as too large.
    """
    if not payload.has_local_working_dir and not payload.files:
        return None
    if payload.has_local_working_dir:
        assert payload.working_dir is not None
        _pack_like_ray(payload.working_dir, payload.excludes, path)
    _add(payload, path)
    _check_size(path, payload)
    return f"gcs://_ray_pkg_{_digest(path)}.zip"


def _pack_like_ray(folder: str, excludes: tuple[str, ...], path: str) -> None:
    from ray._private import ray_constants
    from ray._private.runtime_env.packaging import create_package

    options: dict[str, object] = {}
    # Older Ray (2.52) reads the variable itself, and leaves out nothing of its own accord.
    if "include_gitignore" in signature(create_package).parameters:
        ignored = os.environ.get(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0")
        options["include_gitignore"] = ignored != "1"
    defaults = getattr(ray_constants, "get_runtime_env_default_excludes", list)
    create_package(
        folder,
        Path(path),
        include_parent_dir=False,
        excludes=[*defaults(), *excludes],
        **options,
    )


def _add(payload: Payload, path: str) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        names = set(archive.namelist())
        for name, source in sorted(payload.files.items()):
            if name in names:
                raise PayloadError(
                    f"{source} would be uploaded as {name!r}, which working_dir "
                    f"{payload.working_dir} has already: rename one"
                )
            archive.write(source, name)


def _check_size(path: str, payload: Payload) -> None:
    limit = int(os.environ.get(_MAX_BYTES_VARIABLE, _MAX_BYTES_DEFAULT))
    limit = min(limit, _MAX_REQUEST_BYTES)
    size = os.path.getsize(path)
    if size < limit:
        return
    with zipfile.ZipFile(path) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: -entry.compress_size)
    largest = ", ".join(f"{e.filename} ({_mib(e.compress_size)})" for e in entries[:_LISTED])
    raise PayloadError(
        f"the files to upload from {payload.working_dir or 'extra_files'} make a package of "
        f"{_mib(size)}, but Ray takes at most {_mib(limit)}. Largest: {largest}. Leave data on the "
        "shared file system, or exclude it: .rayignore, .gitignore or runtime_env['excludes']"
    )


def _digest(path: str) -> str:
    """Of names, modes and contents; not of times, which differ from checkout to checkout."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
            digest.update(f"{entry.filename}\0{entry.external_attr}\0".encode())
            with archive.open(entry) as content:
                inner = hashlib.sha256()
                while chunk := content.read(1 << 20):
                    inner.update(chunk)
            digest.update(inner.digest())
    return digest.hexdigest()[:40]


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"
