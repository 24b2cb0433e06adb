"""A cluster that somebody else made, known by its dashboard's address."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from dagster_glue.clusters.base import JobsConnection
from dagster_glue.clusters.waiting import FIRST_CONTACT_S
from dagster_glue.jobs.client import JobsApi, JobUnknown, NoAnswer
from dagster_glue.jobs.link import TOKEN_REFUSED, Outage
from slurm_provider.errors import ConfigError
from slurm_provider.fleet.ledger import Node
from slurm_provider.transport import ConnectFailed, LocalTransport, Transport
from slurm_provider.worker_waits import WorkerWait


def answering(address: str, log: Callable[[str], None]) -> ExistingCluster:
    """The cluster of a dashboard's address, once it has answered.

    Raises ConfigError for an address that cannot be right, ConnectFailed where nothing answers for
    minutes: then it is no outage but another address.
    """
    cluster = ExistingCluster(address)
    api, begin = JobsApi(cluster.open_jobs()), time.monotonic()
    outage = Outage(f"Ray at {address}", log, meanwhile="trying on")
    while True:
        try:
            api.ray_version()
        except (JobUnknown, KeyError):
            raise ConfigError(
                f"RayLauncher.ray_address {address}: what answers there is no Ray dashboard"
            ) from None
        except NoAnswer as error:
            if error.status in TOKEN_REFUSED:  # it is there; who asks it next says what is wrong
                return cluster
            if time.monotonic() - begin > FIRST_CONTACT_S:
                raise ConnectFailed(
                    f"RayLauncher.ray_address {address} has given no answer for "
                    f"{FIRST_CONTACT_S:.0f} s ({error}): is it the dashboard's address, and does "
                    "it lead there from this machine?"
                ) from None
            outage.failed(error)
            outage.wait(lambda: None)
        else:
            outage.passed()
            return cluster


class ExistingCluster:
    """A :class:`~dagster_glue.clusters.base.ClusterAccess`; nothing is known of its hosts.

    The token is the one that Ray's own commands would use: ``RAY_AUTH_TOKEN``, else the file
    ``RAY_AUTH_TOKEN_PATH``, else ``~/.ray/auth_token``, else none.
    """

    def __init__(self, address: str) -> None:
        """``address`` is ``http://host:port``, reachable from here. Raises ConfigError."""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"RayLauncher.ray_address {address!r} is not the address of a dashboard: give "
                "http://host:port"
            )
        self._address = address.rstrip("/")

    @property
    def cluster_id(self) -> str:
        return re.sub(r"[^A-Za-z0-9]+", "-", self._address.partition("://")[2]).strip("-")

    @property
    def directory(self) -> str | None:
        return None

    def open_jobs(self) -> JobsConnection:
        token = _token()
        return JobsConnection(
            address=self._address,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            close=lambda: None,
            is_alive=lambda: True,
        )

    def transport(self) -> Transport:
        return LocalTransport()

    def work_dir(self) -> str | None:
        return None

    def evidence(self) -> list[Node]:
        return []

    def worker_waits(self) -> list[WorkerWait]:
        return []


def _token() -> str | None:
    text = os.environ.get("RAY_AUTH_TOKEN", "")
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token"
    if not text and os.path.isfile(os.path.expanduser(path)):
        text = Path(path).expanduser().read_text()
    return text.strip() or None
