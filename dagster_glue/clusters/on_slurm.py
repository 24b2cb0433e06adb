"""A cluster that the provider made on Slurm, as a run needs it."""

from __future__ import annotations

from dagster_glue.clusters.base import ClusterGone, JobsConnection
from slurm_provider.api import RayCluster
from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import SlurmClient
from slurm_provider.transport import Transport


class SlurmCluster:
    """A :class:`~dagster_glue.clusters.base.ClusterAccess` to a running cluster."""

    def __init__(self, cluster: RayCluster, work_dir: str) -> None:
        """``work_dir`` is absolute, on the file system that the cluster's hosts share."""
        self._cluster = cluster
        self._work_dir = work_dir

    @property
    def cluster_id(self) -> str:
        return self._cluster.name

    @property
    def directory(self) -> str | None:
        return self._cluster.directory

    def open_jobs(self) -> JobsConnection:
        if not any(node.kind == "head" for node in self._cluster.nodes()):
            ended = [node.ended for node in self.evidence() if node.kind == "head" and node.ended]
            why = f": {ended[-1]}" if ended else ""
            raise ClusterGone(f"the head of cluster {self.cluster_id!r} has left Slurm{why}")
        token = self._cluster.token()
        tunnel = self._cluster.dashboard()
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

    def job_ids(self) -> list[str]:
        """Of Slurm, all that the cluster had so far."""
        return self._cluster.job_ids()

    @property
    def slurm(self) -> SlurmClient:
        """Slurm's commands where the cluster is."""
        return self._cluster.slurm
