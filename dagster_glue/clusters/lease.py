"""A lease on a cluster: a file that this process renews for as long as it wants the cluster.

The head's agent takes a cluster down that nobody leases, so a Dagster process that is killed, or
cut off for good, leaves nothing running but its job until that has ended. See
``slurm_provider/agent/leases.py`` and ``job_lease.py`` for the other end.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import posixpath
import secrets
import socket
import threading

from slurm_provider.transport import Transport, TransportError

logger = logging.getLogger(__name__)

# A killed process holds a cluster without jobs no longer; one that is cut off and comes back later
# may find that a cluster on which it had no job is gone.
TTL_S = 600.0
_RENEW_S = 60.0
_TIDY = 'rmdir -- "$1/leases" "$1" 2> /dev/null; :'
_TIMEOUT_S = 60.0
HAND_OVER_S = 1800.0
"""A code location that restarts, and the retry of its steps, take minutes."""


def lease_key(run_id: str, step_key: str) -> str:
    """What the names of a step's leases begin with, in all its attempts."""
    return hashlib.sha256(f"{run_id}/{step_key}".encode()).hexdigest()[:10]


def tidy(transport: Transport, cluster_dir: str) -> None:
    """Remove the folders that a lease alone has made. Raises TransportError."""
    transport.run(["sh", "-c", _TIDY, "sh", cluster_dir], timeout_s=_TIMEOUT_S)


class Lease:
    """Held from :meth:`take` to :meth:`give_back` or :meth:`hand_over`."""

    def __init__(self, transport: Transport, cluster_dir: str, run_id: str, step_key: str) -> None:
        self._transport = transport
        name = f"{lease_key(run_id, step_key)}-{secrets.token_hex(4)}"
        self._path = f"{cluster_dir}/leases/{name}.json"
        self._holder = f"{step_key} of run {run_id} ({socket.gethostname()}:{os.getpid()})"
        self._renewals = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="cluster-lease", daemon=True)

    def take(self) -> None:
        """Write the lease and keep renewing it. Raises OSError, TransportError."""
        self._write(TTL_S)
        self._thread.start()

    def give_back(self) -> None:
        """Stop renewing; remove the lease if it can be reached (it runs out by itself)."""
        self._stop()
        try:
            self._transport.remove_tree(self._path)
        except (OSError, TransportError) as error:
            logger.warning("the lease %s was not given back: %s", self._path, error)

    def hand_over(self, within_s: float) -> None:
        """Stop renewing, but leave the cluster so long for whoever goes on with the work."""
        self._stop()
        try:
            self._write(within_s)
        except (OSError, TransportError) as error:
            logger.warning("the lease %s was not extended: %s", self._path, error)

    def _stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _renew(self) -> None:
        while not self._over.wait(_RENEW_S):
            try:
                # A cluster that is gone must not come back as an empty folder with a lease in it.
                self._transport.list_dir(posixpath.dirname(self._path))
                self._write(TTL_S)
            except FileNotFoundError:
                return
            except (OSError, TransportError) as error:
                logger.warning("the lease %s was not renewed, trying on: %s", self._path, error)

    def _write(self, ttl_s: float) -> None:
        self._renewals += 1
        content = {
            "holder": self._holder,
            "ttl_s": ttl_s,
            "renewal": self._renewals,
        }
        self._transport.write_file(self._path, json.dumps(content).encode(), mode=0o600)
