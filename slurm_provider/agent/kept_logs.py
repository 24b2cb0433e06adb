"""Copies of Ray's logs for runs that failed: a node's own disk forgets them with the job.

A run asks by a file below ``log_requests`` that holds its folder's path. A node that leaves while
a run goes on copies its logs there, in case it fails. When the run's folder has a file ``failed``,
nodes that are alive copy theirs, too. The run withdraws the request when it succeeds.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from slurm_provider.cluster_paths import ClusterPaths

NODE_BYTES = 50 << 20
FILE_BYTES = 10 << 20
# For all runs together: Slurm's KillWait, after which a node that leaves is killed, is often 30 s.
COPY_S = 10.0
MOST_NODES = 20
_SERVED_S = 60.0  # every node has looked by then
_FAILED = "failed"


@dataclass(frozen=True)
class LogFile:
    """A file that could be kept."""

    path: str
    size: int
    modified: float
    """Epoch seconds."""


def chosen(files: Sequence[LogFile], limit: int = NODE_BYTES) -> list[tuple[LogFile, int]]:
    """What to keep, the newest first, and how many bytes from the end of each."""
    plan: list[tuple[LogFile, int]] = []
    for file in sorted(files, key=lambda file: file.modified, reverse=True):
        size = min(file.size, FILE_BYTES)
        if size and size <= limit:
            plan.append((file, size))
            limit -= size
    return plan


class LogKeeper:
    """One node's part. Methods never raise: logs are not worth a node."""

    def __init__(self, paths: ClusterPaths, node_id: str, *, is_head: bool) -> None:
        self._paths = paths
        self._node_id = node_id
        self._is_head = is_head
        self._served: dict[str, float] = {}

    def look(self, scratch: str) -> None:
        """Copy for runs that have failed since the last look; when it takes long, for the others
        at the next look."""
        begin = time.monotonic()
        for request, run in self._requests():
            names = _names(run)
            served = self._served.get(request)
            if served is not None:
                if self._is_head and time.monotonic() - served > _SERVED_S:
                    _remove(request)
            elif _FAILED in names:
                if time.monotonic() > begin + COPY_S / 2:
                    return
                self._keep(scratch, run, begin + COPY_S)
                self._served[request] = time.monotonic()
            elif self._is_head and _is_removed(run):
                _remove(request)

    def leave(self, scratch: str) -> None:
        """Copy for every run that has failed or still may."""
        end = time.monotonic() + COPY_S
        runs = [run for request, run in self._requests()
                if request not in self._served and _names(run)]  # fmt: skip
        for position, run in enumerate(runs):
            now = time.monotonic()
            if now > end:
                return
            self._keep(scratch, run, now + (end - now) / (len(runs) - position))

    def _requests(self) -> list[tuple[str, str]]:
        found = []
        for name in _names(self._paths.log_requests):
            path = os.path.join(self._paths.log_requests, name)
            with contextlib.suppress(OSError):
                if not name.endswith(".new"):
                    with open(path) as file:
                        found.append((path, file.read()))
        return found

    def _keep(self, scratch: str, run: str, deadline: float) -> None:
        folder = os.path.join(run, "ray")
        if len(_names(folder)) >= MOST_NODES and not self._is_head:
            return
        target = os.path.join(folder, self._node_id)
        logs = os.path.realpath(os.path.join(scratch, "session_latest", "logs"))
        try:
            os.makedirs(target, mode=0o700, exist_ok=True)
            job_log = self._paths.log(self._node_id)
            _copy_end(job_log, os.path.join(target, "job.log"), FILE_BYTES)
            for file, size in chosen(_files(logs)):
                if time.monotonic() > deadline:
                    return
                # The base name of a file in a subfolder would not be unique.
                name = os.path.relpath(file.path, logs).replace(os.sep, "__")
                _copy_end(file.path, os.path.join(target, name), size)
        except OSError as error:
            print(f"[agent] Ray's logs were not kept in {target}: {error}", flush=True)


def _names(folder: str) -> list[str]:
    """Listed, not looked up by name: an NFS client remembers for a minute that a name was
    missing."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_removed(folder: str) -> bool:
    """Only if that is certain: a file server that is away is no reason to forget a run."""
    try:
        os.listdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _files(folder: str) -> list[LogFile]:
    found = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError):
                status = os.stat(path)
                found.append(LogFile(path, status.st_size, status.st_mtime))
    return found


def _copy_end(source: str, target: str, size: int) -> None:
    """The last ``size`` bytes, with a word on what is left out."""
    try:
        file = open(source, "rb")
    except FileNotFoundError:
        return
    with file, open(target, "wb") as copy:
        left_out = max(0, os.fstat(file.fileno()).st_size - size)
        if left_out:
            copy.write(b"[the first %d bytes are left out]\n" % left_out)
            file.seek(left_out)
        copy.write(file.read(size))


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
