"""The cluster's worker jobs as its head sees them: it withdraws them when it goes.

Without a head nobody needs them: running ones would notice, queued ones would not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_provider.agent.files import read_json
from slurm_provider.cluster_paths import ClusterPaths

if TYPE_CHECKING:
    from slurm_provider.cluster import Cluster
    from slurm_provider.slurm import SlurmClient


class WorkerJobs:
    """What is known once is kept: the cluster's folder, with this very code, may be removed."""

    def __init__(self, paths: ClusterPaths, config_path: str) -> None:
        self._paths = paths
        self._config_path = config_path
        self._uuid: str | None = None
        self._cluster: Cluster | None = None

    @property
    def is_known(self) -> bool:
        """Whether ``withdraw`` needs the folder no longer."""
        return self._cluster is not None

    def learn(self) -> None:
        """To be called while the folder is there: whose jobs they are and the way to Slurm, with
        the code for it. Never raises; what was known before is kept."""
        try:
            identity, config = read_json(self._paths.identity), read_json(self._config_path)
        except (OSError, ValueError):
            return
        if identity is not None and self._uuid is None:  # a later one is a cluster made anew
            self._uuid = identity["uuid"]
        if config is None:  # `ray up` has not come so far, or the folder is gone
            return
        try:
            from slurm_provider.cluster import Cluster

            cluster = Cluster(config["provider"], config["cluster_name"])
            cluster.client_with(1.0)  # imports what the way to Slurm needs
            self._cluster = cluster
        except Exception as error:  # no reason for a head to end
            print(f"[agent] the way to Slurm is not clear: {error}", flush=True)

    def withdraw(self, timeout_s: float) -> bool:
        """End them. False if Slurm did not answer, in ``timeout_s`` seconds for each question."""
        self.learn()
        from slurm_provider.errors import ClusterError, ConfigError
        from slurm_provider.fleet.identity import WORKER, parse_job_name
        from slurm_provider.slurm import SlurmError
        from slurm_provider.transport import TransportError

        try:
            client = self._client(timeout_s)
            workers = [
                job.job_id
                for job in client.queue()
                if job.state.is_live
                and "+" not in job.job_id  # components end with their own head
                and (identity := parse_job_name(job.name)) is not None
                and (identity.uuid, identity.kind) == (self._uuid, WORKER)
            ]
            if workers:
                client.cancel(workers)
        except (SlurmError, TransportError, ClusterError, ConfigError, OSError) as error:
            print(f"[agent] the workers were not withdrawn: {error}", flush=True)
            return False
        return self._uuid is not None

    def _client(self, timeout_s: float) -> SlurmClient:
        """As the autoscaler reaches it: by SSH where compute nodes may not ask Slurm."""
        from slurm_provider.slurm import SlurmClient
        from slurm_provider.transport import LocalTransport

        if self._cluster is None:
            return SlurmClient(LocalTransport(), timeout_s=timeout_s)
        return self._cluster.client_with(timeout_s)
