"""What a run needs of a cluster, whatever made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from slurm_provider.fleet.ledger import Node
from slurm_provider.transport import Transport
from slurm_provider.worker_waits import WorkerWait


class ClusterGone(Exception):
    """The cluster is certainly no more; the message says how it ended.

    Never raised because something did not answer: that is a ConnectionError, an OSError, or the
    provider's TransportError, SlurmError or ClusterError, and may pass.
    """

    def __init__(self, message: str, nodes: Sequence[Node] = ()) -> None:
        """``nodes`` as Slurm saw them last."""
        super().__init__(message)
        self.nodes = nodes


@dataclass(frozen=True)
class JobsConnection:
    """An open way to a cluster's dashboard, which serves the job API."""

    address: str
    """``http://127.0.0.1:40123``, without a slash at the end."""
    headers: dict[str, str] = field(repr=False)
    """Sent with every request; holds the token."""
    close: Callable[[], None]
    is_alive: Callable[[], bool]
    """False once a new connection is needed."""


class ClusterAccess(Protocol):
    """A cluster that runs."""

    @property
    def cluster_id(self) -> str:
        """Its name, unique."""
        ...

    @property
    def directory(self) -> str | None:
        """The cluster's directory on the shared file system; None without one."""
        ...

    def open_jobs(self) -> JobsConnection:
        """Open the way to the job API, anew each time.

        Raises ClusterGone on evidence only; any other exception means: not now.
        """
        ...

    def transport(self) -> Transport:
        """Where the cluster's files can be read and written."""
        ...

    def work_dir(self) -> str | None:
        """Absolute folder for run folders, the same for the head and for :meth:`transport`.

        None where the two share no file system.
        """
        ...

    def evidence(self) -> list[Node]:
        """Nodes by Slurm's word, also those that ended; empty where no Slurm is involved.

        Raises SlurmError or TransportError when Slurm gives no answer.
        """
        ...

    def worker_waits(self) -> list[WorkerWait]:
        """What workers wait for that do not run yet; empty where no Slurm is involved.

        Raises what :meth:`evidence` does, and ClusterError.
        """
        ...
