"""A cluster that the provider made on Slurm, as a run needs it."""

from __future__ import annotations

import time

from dagster_glue.clusters.base import ClusterGone, JobsConnection
from slurm_provider.api import ClusterHandle
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import SlurmClient
from slurm_provider.transport import LocalTransport, Transport
from slurm_provider.worker_waits import WorkerWait

_TIMEOUT_S = 30.0


class SlurmCluster:
    """A :class:`~dagster_glue.clusters.base.ClusterAccess` to a running cluster."""

    def __init__(self, cluster: ClusterHandle, work_dir: str, *, is_shared: bool = False) -> None:
        """``work_dir`` is absolute, on the file system that the cluster's hosts share.

        ``is_shared``: others use the cluster, and it goes on.
        """
        self._cluster = cluster
        self._work_dir = work_dir
        self.is_shared = is_shared

    @property
    def cluster_id(self) -> str:
        return self._cluster.name

    @property
    def directory(self) -> str | None:
        return self._cluster.directory

    def open_jobs(self) -> JobsConnection:
        try:
            token = self._cluster.token()
            tunnel = self._cluster.dashboard()
        except Exception:
            self._check_head()  # only now: mostly it is there, and asking takes time
            raise
        return JobsConnection(
            address=f"http://127.0.0.1:{tunnel.port}",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            close=tunnel.close,
            is_alive=lambda: tunnel.alive,
        )

    def transport(self) -> Transport:
        return self._cluster.transport

    def work_dir(self) -> str | None:
        return self._work_dir

    def evidence(self) -> list[Node]:
        return self._cluster.all_nodes()

    def worker_waits(self) -> list[WorkerWait]:
        return self._cluster.worker_waits()

    def history(self, since: float) -> tuple[list[Node], list[str]]:
        """Like ``evidence``, and Slurm's job ids of all that the cluster had; of a shared one,
        without those that had ended before ``since``, in epoch seconds."""
        return self._cluster.history(since if self.is_shared else None)

    def clock_offset_s(self) -> float:
        """How far the clock where Slurm's commands run is ahead of this machine's.

        Raises ClusterError, TransportError.
        """
        if isinstance(self.transport(), LocalTransport):
            return 0.0
        done = self.transport().run(["date", "+%s.%N"], timeout_s=_TIMEOUT_S)
        try:
            return float(done.stdout) - time.time()
        except ValueError:
            raise ClusterError(f"`date` on {self.transport().label} gave no time") from None

    @property
    def slurm(self) -> SlurmClient:
        """Slurm's commands where the cluster is."""
        return self._cluster.slurm

    def _check_head(self) -> None:
        """Raises ClusterGone if Slurm says that the head has left."""
        if any(node.kind == "head" for node in self._cluster.nodes()):
            return
        nodes = self.evidence()
        ended = [node.ended for node in nodes if node.kind == "head" and node.ended]
        why = f": {ended[-1]}" if ended else ""
        raise ClusterGone(f"the head of cluster {self.cluster_id!r} has left Slurm{why}", nodes)
