"""Clusters from Python, by the steps and with the configuration of ``ray up`` and ``ray down``.

For programs that make clusters (the Dagster glue does). Ray is imported on use, not with this
module.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click

from slurm_provider.access import NodeAccess
from slurm_provider.cluster import Cluster
from slurm_provider.command_end import Unfinished
from slurm_provider.errors import ClusterError, StartFailed
from slurm_provider.excludes import Excludes
from slurm_provider.fleet.ledger import Node
from slurm_provider.overview import made_cluster, node_rows, read_facts, setbacks
from slurm_provider.slurm import SlurmClient, SlurmError, SlurmUnavailable
from slurm_provider.transport import Transport, TransportError
from slurm_provider.transport.tunnel import Tunnel
from slurm_provider.worker_waits import WorkerWait, worker_waits

_TUNNEL_TIMEOUT_S = 30.0
_POLL_S = 1.0
_CLOCKS_DIFFER_S = 300.0  # munge allows no more among a site's hosts


@dataclass(frozen=True)
class Head:
    """Where a running head is."""

    node_id: str
    job_id: str
    """Slurm's; empty for a head on the edge node."""
    host: str
    gcs_address: str
    dashboard_port: int
    """On the head's loopback; see :meth:`RayCluster.dashboard`."""
    generation: str
    """Changes whenever Ray is started anew."""


class ClusterHandle:
    """One cluster that was made before, by its ``provider:`` section: look at it, reach it, end it.

    Does without Ray. Methods raise ConfigError, ClusterError, SlurmError or TransportError.
    """

    def __init__(
        self, provider: Mapping[str, Any], name: str, transport: Transport | None = None
    ) -> None:
        """``transport`` is where Slurm's commands run, in place of ``provider.ssh``: for passwords
        and one-time passwords, which do not belong into a configuration. Raises ConfigError;
        nothing is connected yet."""
        self._cluster = Cluster(provider, name, transport)

    @property
    def name(self) -> str:
        return self._cluster.name

    @property
    def transport(self) -> Transport:
        """Where Slurm's commands run and the cluster's directory is."""
        return self._cluster.transport

    @property
    def slurm(self) -> SlurmClient:
        """Slurm's commands, for what this class does not offer."""
        return self._cluster.client

    @property
    def directory(self) -> str:
        """The cluster's directory on the shared file system."""
        return self._cluster.store.paths.root

    def token(self) -> str | None:
        """Ray's token; None where authentication is off or the cluster was never made."""
        return self._cluster.store.token()

    def head(self) -> Head | None:
        """The head as its agent published it, None while Ray does not run on it."""
        values = self._cluster.store.head()
        if values is None:
            return None
        return Head(
            node_id=values["node_id"],
            job_id=values["job_id"],
            host=values["host"],
            gcs_address=values["gcs_address"],
            dashboard_port=values["dashboard_port"],
            generation=values["generation"],
        )

    def nodes(self) -> list[Node]:
        """Living nodes by Slurm's word, asked now; empty for a cluster that was never made."""
        return self._cluster.fleet.nodes() if self._cluster.was_made else []

    def remaining(self) -> list[Node]:
        """Also what is cancelled or completing."""
        return self._cluster.fleet.remaining() if self._cluster.was_made else []

    def all_nodes(self) -> list[Node]:
        """Also those that ended, as far as Slurm still shows them or this process saw them."""
        return self.history()[0]

    def history(self, since: float | None = None) -> tuple[list[Node], list[str]]:
        """``all_nodes`` and, for accounting, Slurm's job ids of all nodes that ever started and of
        those that wait.

        With ``since``, in epoch seconds: without the ids of those that had ended before, as far as
        clocks that may differ can tell.
        """
        if not self._cluster.was_made:
            return [], []
        reports = self._cluster.store.reports()
        remaining = self.remaining()
        nodes = {node.node_id: node for node in remaining}
        for node_id in reports:
            node = self._cluster.fleet.node(node_id)
            if node is not None:
                nodes.setdefault(node_id, node)
        for node_id, node in nodes.items():
            node.memory_killed_at = reports.get(node_id, {}).get("memory_killed")
        begin = -math.inf if since is None else since - _CLOCKS_DIFFER_S
        ids = {
            node_id: str(report["job_id"])
            for node_id, report in reports.items()
            if report.get("ended", math.inf) > begin
        }
        ids |= {node.node_id: node.slurm_id for node in remaining if node.slurm_id}
        return list(nodes.values()), [job_id for job_id in ids.values() if job_id]

    def outcome(self, node_id: str, timeout_s: float) -> Node | None:
        """One node, living or not, as Slurm says now; None if it knows of none such.

        Of a node that is on its way out, the state in which it ends is waited for so long.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._cluster.fleet.refresh()
            node = self._cluster.fleet.node(node_id)
            if node is None or node.ended is not None or time.monotonic() > deadline:
                return node
            said = (self._cluster.store.report(node_id) or {}).get("state")
            if node.is_live and said != "ended":
                return node
            time.sleep(_POLL_S)

    def worker_waits(self) -> list[WorkerWait]:
        """What workers wait for that do not run yet, while the head lives; asked now, by one squeue
        and a small file."""
        uuid = made_cluster(self._cluster)
        facts = read_facts(self._cluster, uuid, time.time(), with_reports=False)
        log_tail = self._cluster.store.log_tail
        return worker_waits(node_rows(facts), setbacks(facts, log_tail))

    def dashboard(self, local_port: int = 0) -> Tunnel:
        """A local port that leads to the dashboard and job API; close it after use."""
        head = self.head()
        if head is None:
            raise ClusterError(f"cluster {self.name!r} has no running head")
        tunnel = NodeAccess(self._cluster, head.node_id).tunnel(head.dashboard_port, local_port)
        try:
            tunnel.wait_ready(_TUNNEL_TIMEOUT_S)
        except TransportError:
            tunnel.close()
            raise
        return tunnel

    def log_tail(self, node_id: str, lines: int = 20) -> str:
        """The last lines that a node printed."""
        return self._cluster.store.log_tail(node_id, lines)

    def down(self) -> None:
        """End all nodes and remove the directory; a cluster that is gone already is fine."""
        if not self._cluster.was_made:
            return
        self._cluster.take_down()


class RayCluster(ClusterHandle):
    """One cluster, described by a cluster YAML as a mapping: make it as well."""

    def __init__(self, config: Mapping[str, Any], transport: Transport | None = None) -> None:
        """Check the configuration; raises ConfigError. See :class:`ClusterHandle`."""
        from ray.autoscaler._private.util import prepare_config

        from slurm_provider import bootstrap

        self._config = bootstrap.resolve(bootstrap.fillout(prepare_config(dict(config))))
        super().__init__(self._config["provider"], self._config["cluster_name"], transport)
        self._starting: NodeAccess | None = None

    def up(
        self,
        show: Callable[[str], None] = lambda words: None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> Head:
        """Make the cluster, or attach to the one that lives; waits as long as Slurm's queue does.

        ``show`` gets the head's state in words while it waits; ``is_wanted`` turning False ends
        the wait with a ClusterError and leaves the job queued.
        """
        node_id = self.request_head()
        self.await_host(node_id, show, is_wanted)
        return self.start_ray(node_id)

    def request_head(self) -> str:
        """The node id of the head that lives or waits; submits one if there is none.

        May be called again after a transient error. A job whose submission gave no answer is
        waited for and cancelled first: until then it raises SlurmUnavailable.
        """
        with _as_cluster_error():
            node_id = self._head_node_id()
            if node_id is None and self._cluster.was_made and self._cluster.fleet.has_lost_answer():
                raise SlurmUnavailable(
                    f"whether Slurm has taken the head of cluster {self.name!r} is not known yet"
                )
            return node_id or self._create_head()

    def await_host(
        self,
        node_id: str,
        show: Callable[[str], None] = lambda words: None,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Wait until the head's job runs and takes orders; see :meth:`up`."""
        NodeAccess(self._cluster, node_id).wait_ready(show, is_wanted)

    def start_ray(self, node_id: str) -> Head:
        """Start Ray on a head that takes orders, unless it runs. For one caller at a time, who may
        call it again after a transient error: the same order is then waited for."""
        with _as_cluster_error():
            if self.head() is None:
                if self._starting is None or self._starting.node_id != node_id:
                    self._starting = NodeAccess(self._cluster, node_id)
                try:
                    self._start(self._starting)
                except Unfinished as error:
                    if error.node_has_ended:
                        raise StartFailed(str(error), node_id) from None
                    raise
        head = self.head()
        if head is None:
            words = f"the head of cluster {self.name!r} left while it was starting"
            raise StartFailed(words, node_id)
        return head

    # -- inside ----------------------------------------------------------------------------

    def _head_node_id(self) -> str | None:
        heads = [node.node_id for node in self.nodes() if node.kind == "head"]
        return heads[0] if heads else None

    def _create_head(self) -> str:
        from ray.autoscaler import tags
        from ray.autoscaler._private.util import hash_launch_conf

        head_type = self._config["head_node_type"]
        node_config = self._config["available_node_types"][head_type]["node_config"]
        # The tags that `ray up` would set, so that it takes this head for its own.
        created = self._provider().create_node(
            node_config,
            {
                tags.TAG_RAY_NODE_KIND: tags.NODE_KIND_HEAD,
                tags.TAG_RAY_USER_NODE_TYPE: head_type,
                tags.TAG_RAY_LAUNCH_CONFIG: hash_launch_conf(node_config, self._config["auth"]),
                tags.TAG_RAY_NODE_NAME: f"ray-{self.name}-head",
                tags.TAG_RAY_NODE_STATUS: tags.STATUS_UP_TO_DATE,
            },
            1,
        )
        self._cluster.forget()  # the provider made the directory behind our back
        return str(next(iter(created)))

    def _start(self, access: NodeAccess) -> None:
        """What `ray up` does on a head: files, set-up commands, Ray."""
        remote = self._provider().prepare_for_head_node(self._config)
        remote["file_mounts"] = {target: target for target in self._config["file_mounts"]}
        access.write_bootstrap_config(json.dumps(remote).encode())
        for target, source in self._config["file_mounts"].items():
            access.place_mount(source, target, Excludes.of(self._config))
        commands = [*self._config["initialization_commands"], *self._config["head_setup_commands"]]
        for command in commands:
            try:
                code, output = access.capture(command, timeout_s=24 * 3600)
            except Unfinished as error:
                raise error.of(f"the set-up command {command!r}") from None
            if code != 0:
                raise ClusterError(f"{command} ended with exit code {code} on the head: {output}")
        identity = {
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": access.node_id,
            "RAY_NODE_TYPE_NAME": self._config["head_node_type"],
        }
        for command in access.still_to_start(self._config["head_start_ray_commands"]):
            access.start_ray(command, identity)

    def _provider(self) -> Any:
        from slurm_provider.node_provider import SlurmNodeProvider

        return SlurmNodeProvider(self._config["provider"], self.name, self._cluster)


@contextlib.contextmanager
def _as_cluster_error() -> Iterator[None]:
    """The provider speaks click, for Ray's commands."""
    try:
        yield
    except click.ClickException as error:
        cause = error.__cause__
        if isinstance(cause, (ClusterError, SlurmError, TransportError)):
            raise cause from None
        raise ClusterError(error.message) from None
