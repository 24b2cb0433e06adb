"""Small files on the shared file system: written whole, read whole."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from typing import Any

from slurm_provider.cluster_paths import ClusterPaths


def write_json(path: str, value: Any) -> None:
    """Write by temporary file and rename (0600): a reader sees the old or the new content."""
    write_text(path, json.dumps(value, indent=1))


def write_text(path: str, text: str) -> None:
    """The same for text."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")  # mkstemp makes it 0600
    try:
        # Environment variables may hold bytes that are no UTF-8; Python carries them this way.
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_json(path: str) -> Any | None:
    """The content, or None while there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def is_closing(paths: ClusterPaths) -> bool:
    """Whether the cluster is being taken down: its tombstone is there, or its folder is not.

    Listed, because an NFS client remembers for a minute that a name was missing. A file system
    that gives no answer is no evidence.
    """
    try:
        return os.path.basename(paths.closing) in os.listdir(paths.root)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def is_removed(paths: ClusterPaths) -> bool:
    """Whether the cluster's folder is certainly gone, and not only out of reach."""
    try:
        os.listdir(paths.root)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False
