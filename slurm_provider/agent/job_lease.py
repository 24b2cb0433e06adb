"""A running Ray job's own lease on its cluster, which the head holds for it.

Whoever started the job may be cut off for longer than its lease lasts, or was killed and will be
started anew to go on with it: neither may end the job. So a cluster that nobody leases is asked
whether jobs run, and is leased in their name until Ray says that none does.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import urllib.request
from collections.abc import Callable
from typing import Any

from slurm_provider.agent.files import read_json, write_json
from slurm_provider.cluster_paths import ClusterPaths
from slurm_provider.loopback_http import opener

NAME = "running-jobs.json"
"""Of the lease, beside the others."""
ASK_EVERY_S = 10.0
SILENT_S = 600.0
"""A Ray that gives no answer for so long is taken for one without jobs."""
_TTL_S = 60.0
_TIMEOUT_S = 5.0  # the agent does nothing else meanwhile; Slurm's KillWait is longer
_RUNNING = ("PENDING", "RUNNING")


class JobLease:
    """:meth:`keep` it while nobody else leases the cluster, :meth:`give_back` when somebody does.

    The file system's failures pass in silence: the next look comes in seconds.
    """

    def __init__(self, paths: ClusterPaths, has_jobs: Callable[[], bool | None]) -> None:
        """``has_jobs`` returns None where it gets no answer."""
        self._path = os.path.join(paths.leases, NAME)
        self._has_jobs = has_jobs
        self._next = 0.0
        self._silent_since: float | None = None
        self._renewals = 0
        self._is_written = False

    def keep(self, now: float) -> None:
        """Renew it, or drop it where no job runs; asks Ray every few seconds only. ``now`` is of a
        monotonic clock."""
        if now < self._next:
            return
        self._next = now + ASK_EVERY_S
        has_jobs = self._has_jobs()
        if has_jobs is not None:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        is_silent = self._silent_since is not None and now - self._silent_since < SILENT_S
        if has_jobs or is_silent:
            self._write()
        else:
            self._remove()

    def give_back(self) -> None:
        self._next = 0.0
        self._remove()

    def _write(self) -> None:
        self._renewals += 1
        self._is_written = True
        lease = {"holder": "running Ray jobs", "ttl_s": _TTL_S, "renewal": self._renewals}
        with contextlib.suppress(OSError):
            write_json(self._path, lease)

    def _remove(self) -> None:
        if not self._is_written:
            return
        with contextlib.suppress(OSError):
            os.unlink(self._path)
            self._is_written = False


def jobs_run(paths: ClusterPaths) -> bool | None:
    """Whether jobs or other drivers run on the cluster's Ray, asked on its head; None if it gives
    no answer."""
    try:
        head = read_json(paths.head)
        if head is None:
            return False  # nor does Ray
        jobs = _asked(f"http://127.0.0.1:{head['dashboard_port']}/api/jobs/", paths.token)
        return any(job["status"] in _RUNNING for job in jobs)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None


def _asked(url: str, token_path: str) -> Any:
    request = urllib.request.Request(url)
    with contextlib.suppress(FileNotFoundError), open(token_path) as file:
        request.add_header("Authorization", f"Bearer {file.read().strip()}")
    with opener().open(request, timeout=_TIMEOUT_S) as answer:
        return json.load(answer)
