"""Where a site's clusters are, and what to hold while one is made or removed."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster_glue.clusters.site import Sighting, read_site
from dagster_glue.shared_lock import SharedLock
from dagster_glue.slurm import SlurmResource
from slurm_provider import own_folder
from slurm_provider.api import ClusterHandle
from slurm_provider.errors import ConfigError
from slurm_provider.slurm import SlurmClient
from slurm_provider.transport import Transport, TransportError

_LASTING = {"Permission denied", "Not a directory", "Read-only file system", "File exists"}


@dataclass(frozen=True)
class Place:
    """The base path of a site, as ``transport`` sees it."""

    transport: Transport
    base_dir: str
    """Absolute, on the file system that all hosts share."""
    ssh: Mapping[str, Any] | None = None
    """``provider.ssh`` of a cluster YAML."""
    provider: Mapping[str, Any] = field(default_factory=dict)
    """What else a cluster YAML's ``provider:`` needs to find a cluster's jobs and files."""

    @property
    def clusters_dir(self) -> str:
        return f"{self.base_dir}/clusters"

    @property
    def runs_dir(self) -> str:
        """Of run folders."""
        return f"{self.base_dir}/runs"

    def make(self) -> None:
        """The folder, if it is not there. Raises ConfigError where we may not write or others may,
        and TransportError."""
        folders = [posixpath.basename(path) for path in (self.clusters_dir, self.runs_dir)]
        made = own_folder.make(self.transport, self.base_dir, *folders, "locks", "env-cache")
        words = f"SlurmResource.remote_base {self.base_dir} on {self.transport.label}"
        if made.problem:
            raise ConfigError(f"{words}: {own_folder.refusal(made.problem)}")
        if made.error in _LASTING:
            raise ConfigError(f"{words}: {made.error}; choose a folder where you may write")
        if made.error:
            raise TransportError(f"{words}: {made.error}")

    def directory(self, name: str) -> str:
        return f"{self.clusters_dir}/{name}"

    def lock(self, key: str = "clusters") -> SharedLock:
        """Held by who makes or removes a session's cluster; with a ``key``, another one."""
        return SharedLock(self.transport, f"{self.base_dir}/locks", key)

    def handle(self, name: str) -> ClusterHandle:
        """Raises ConfigError for what cannot be a cluster's name."""
        section = {**self.provider, "cluster_dir": self.directory(name)}
        return ClusterHandle(section, name, self.transport)

    def remove(self, name: str) -> None:
        """End a cluster and remove its folder, also of one that was never made. Raises ConfigError,
        ClusterError, SlurmError, TransportError, OSError."""
        handle = self.handle(name)
        handle.down()
        if not self.provider.get("keep_logs"):
            self.transport.remove_tree(handle.directory)

    def look(self) -> list[Sighting]:
        """All its clusters. Raises ClusterError, SlurmError, TransportError."""
        clusters = self.provider.get("defaults", {}).get("clusters")
        return read_site(self.transport, SlurmClient(self.transport, clusters=clusters),
                         self.clusters_dir)  # fmt: skip


def place_of(slurm: SlurmResource) -> Place:
    """Raises ConfigError, and TransportError where the home folder has to be asked for."""
    transport = slurm.transport()
    base = slurm.base_path()
    if base.startswith("~/"):
        base = transport.home() + base[1:]
    provider = dict(slurm.provider_options)
    clusters = slurm.queue.options().get("clusters")
    if clusters is not None:
        provider["defaults"] = {"clusters": clusters}
    ssh = None if slurm.ssh is None else slurm.ssh.cluster_section()
    return Place(transport, base, ssh, provider)
