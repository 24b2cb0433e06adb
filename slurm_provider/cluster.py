"""One cluster as every command sees it: configuration, directory, Slurm, fleet, put together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from slurm_provider.cluster_paths import folder_problem
from slurm_provider.config import ProviderConfig, SshConfig, parse_provider
from slurm_provider.errors import ClusterError, ConfigError
from slurm_provider.fleet.edge import EdgeHead
from slurm_provider.fleet.fleet import Fleet
from slurm_provider.fleet.lock import cluster_lock
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.fleet.watcher import Watcher
from slurm_provider.slurm import SlurmClient
from slurm_provider.slurm.client import TIMEOUT_S
from slurm_provider.transport import LocalTransport, Transport

_SWEEP_TIMEOUT_S = 60.0


class Cluster:
    """Built from the ``provider:`` section and the cluster's name; connects on first use.

    ``transport`` takes the place of ``provider.ssh``, for logins that no YAML can describe.
    """

    def __init__(
        self, section: Mapping[str, Any], name: str, transport: Transport | None = None
    ) -> None:
        self.section = section
        self.name = name
        self._given_transport = transport
        self.config: ProviderConfig = parse_provider(section)

    @property
    def is_on_head(self) -> bool:
        """True in the autoscaler's process."""
        return bool(self.section.get("_on_head"))

    @cached_property
    def transport(self) -> Transport:
        """Where Slurm's commands run."""
        if self._given_transport is not None:
            return self._given_transport
        if self.config.ssh is None:
            return LocalTransport()
        return _ssh_transport(self.config.ssh)

    @cached_property
    def store(self) -> ClusterStore:
        # On the head the directory is on a mounted file system even if Slurm is behind SSH.
        transport = LocalTransport() if self.is_on_head else self.transport
        return ClusterStore(transport, self._root(transport))

    @cached_property
    def client(self) -> SlurmClient:
        return self.client_with()

    def client_with(self, timeout_s: float = TIMEOUT_S) -> SlurmClient:
        """One that waits so long for each of Slurm's answers."""
        return SlurmClient(self.transport, clusters=self.slurm_cluster, timeout_s=timeout_s)

    @property
    def slurm_cluster(self) -> str | None:
        """The Slurm cluster that the nodes are on, None for the local one."""
        name = self.config.defaults.get("clusters")
        return None if name is None else str(name)

    @cached_property
    def fleet(self) -> Fleet:
        """Raises ClusterError where the cluster was never made, and ConfigError where somebody
        else may have changed its directory."""
        if not self.is_on_head:  # or else its code came from there already
            self.store.check_private()
        uuid = self.store.uuid()
        if uuid is None:
            raise ClusterError(
                f"there is no cluster {self.name!r} in {self.store.paths.root} on "
                f"{self.store.transport.label}; make it with `ray up`"
            )
        edge = EdgeHead(self.transport, self.store)
        fleet = Fleet(
            self.client, self.store, edge, self.config, self.name, uuid, watched=self.is_on_head
        )
        if self.is_on_head:
            Watcher(fleet).start()
        return fleet

    @property
    def was_made(self) -> bool:
        return "fleet" in self.__dict__ or self.store.uuid() is not None

    def end_nodes(self) -> None:
        """For good: the autoscaler launches no more, and Slurm lists none of them any more.

        Raises ClusterError when some are still there after a minute.
        """
        self.store.close()  # first: the autoscaler must not replace what we end
        if not self.fleet.sweep(_SWEEP_TIMEOUT_S):
            raise ClusterError(
                f"Slurm still lists jobs of cluster {self.name!r}; run `ray down` again"
            )

    def take_down(self) -> None:
        """End all nodes and remove the directory: nothing stays, in Slurm or on disk."""
        fleet = self.fleet
        with cluster_lock(self.store):
            if self.store.uuid() in (fleet.uuid, None):  # or else `ray up` made it anew meanwhile
                self.end_nodes()
                self.store.remove(keep_logs=self.config.keep_logs)
        self.forget()

    def forget(self) -> None:
        """Drop what is cached of a directory that was removed or made anew."""
        self.__dict__.pop("fleet", None)

    def renew(self) -> None:
        """Drop what is cached if the directory was made anew meanwhile."""
        if "fleet" in self.__dict__ and self.fleet.uuid != self.store.uuid():
            self.forget()

    def _root(self, transport: Transport) -> str:
        path = self.config.cluster_dir or f"~/.ray-slurm/{self.name}"
        if path == "~" or path.startswith("~/"):
            path = transport.home() + path[1:]
            if problem := folder_problem(path):
                raise ConfigError(f"provider.cluster_dir {path!r} cannot be used: {problem}")
        if not os.path.isabs(path):
            raise ClusterError(
                f"provider.cluster_dir {path!r} must be absolute or start with ~/ : it is used on "
                "every host of the cluster"
            )
        return path


def _ssh_transport(settings: SshConfig) -> Transport:
    from slurm_provider.transport import SshSettings, SshTransport

    try:
        return SshTransport(SshSettings(**settings.model_dump()))
    except ValueError as error:
        raise ConfigError(f"provider.ssh: {error}") from None
