"""Ray's NodeProvider contract (ray/autoscaler/node_provider.py), translated and nothing else.

Called by `ray up`, `ray down` and the other commands, each time in a new process, and by
autoscaler v2's loop on the head, where every call must answer at once.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from slurm_provider import bootstrap
from slurm_provider.cluster import Cluster
from slurm_provider.detached import refuse_detached
from slurm_provider.errors import ClusterError, ConfigError
from slurm_provider.fleet.identity import HEAD
from slurm_provider.fleet.launch import LaunchRequest
from slurm_provider.fleet.ledger import Node
from slurm_provider.head_launch import check_open, sole_launch
from slurm_provider.launch_checks import check_launch, check_mounts, check_node_types, check_tls
from slurm_provider.launch_requests import first_workers, launch_request
from slurm_provider.ray_schema import check_ray_schema
from slurm_provider.requirements import check_ray_version
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import TransportError

logger = logging.getLogger(__name__)

_Function = TypeVar("_Function", bound=Callable[..., Any])
_EXPECTED = (ConfigError, ClusterError, SlurmError, TransportError)


def _plainly(function: _Function) -> _Function:
    """Turn our errors into what click prints as one sentence, without a traceback."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except _EXPECTED as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:  # the cluster's folder; the message names it where Python does
            words = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            raise click.ClickException(f"{words}; check provider.cluster_dir") from error

    return wrapper  # type: ignore[return-value]


class SlurmNodeProvider(NodeProvider):  # type: ignore[misc]  # Ray ships no types for it
    """``provider: {type: external, module: slurm_provider.SlurmNodeProvider}``."""

    @_plainly
    def __init__(
        self, provider_config: dict[str, Any], cluster_name: str, cluster: Cluster | None = None
    ) -> None:
        """Ray gives the first two; ``cluster`` is the same one where it is at hand already."""
        super().__init__(provider_config, cluster_name)
        check_ray_version()
        bootstrap.check_cached(provider_config)
        self._cluster = cluster or Cluster(provider_config, cluster_name)
        check_ray_version(tls=self._cluster.config.tls)
        if self._cluster.config.head_placement == "slurm":
            refuse_detached()
        self._asked_slurm = False
        command = click.get_current_context(silent=True)
        if command is not None and command.info_name == "up":
            self._cluster.store.check_own()
            check_mounts(self._cluster)  # of a running cluster, too: Ray would end in a traceback
        if self._cluster.is_on_head:
            _quieten_config_warnings()
            _ = self._cluster.fleet  # starts asking Slurm before the first tick needs it

    # -- configuration ---------------------------------------------------------------------

    @staticmethod
    def fillout_available_node_types_resources(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Ray turns an exception here into a warning, and prints what its own check refuses next
        as a traceback: so that check comes here, and its answer is the last word."""
        filled = bootstrap.fillout(cluster_config)
        try:
            check_ray_schema(filled)
        except ConfigError as error:
            click.ClickException(str(error)).show()
            raise SystemExit(1) from None
        return filled

    @staticmethod
    @_plainly
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        check_ray_version()
        return bootstrap.resolve(cluster_config)

    @_plainly
    def prepare_for_head_node(self, cluster_config: dict[str, Any]) -> dict[str, Any]:
        if not self._asked_slurm:  # `ray up` on a running cluster, perhaps with other types
            check_node_types(self._cluster, cluster_config)
        check_open(self._cluster)
        check_tls(self._cluster)
        return bootstrap.for_head(cluster_config)

    # -- listing ---------------------------------------------------------------------------

    @_plainly
    def non_terminated_nodes(self, tag_filters: Mapping[str, str]) -> list[str]:
        if not self._has_cluster():
            return []
        return self._matching(self._cluster.fleet.nodes(), tag_filters)

    @_plainly
    def nodes_for_teardown(self, tag_filters: Mapping[str, str]) -> list[str]:
        """What `ray down` waits for: also what is cancelled but not gone yet."""
        if not self._has_cluster():
            return []
        return self._matching(self._cluster.fleet.remaining(), tag_filters)

    def is_running(self, node_id: str) -> bool:
        node = self._node(node_id)
        return node is not None and node.is_live and node.is_running

    def is_terminated(self, node_id: str) -> bool:
        node = self._node(node_id)
        return node is None or not node.is_live

    @_plainly
    def node_tags(self, node_id: str) -> dict[str, str]:
        node = self._node(node_id)
        if node is None:
            raise ClusterError(f"cluster {self.cluster_name!r} has no node {node_id}")
        return self._tags(node)

    @_plainly
    def set_node_tags(self, node_id: str, tags: Mapping[str, str]) -> None:
        stored = {**self._cluster.store.tags(node_id), **tags}
        self._cluster.store.write_tags(node_id, stored)
        node = self._node(node_id)
        if node is not None:
            node.tags = stored

    @_plainly
    def internal_ip(self, node_id: str) -> str:
        report = self._cluster.store.report(node_id)
        if report is None or "address" not in report:
            raise ClusterError(
                f"node {node_id} of cluster {self.cluster_name!r} has no address yet: its job has "
                "not started (see `ray-slurm status`)"
            )
        return str(report["address"])

    def external_ip(self, node_id: str) -> str:
        return self.internal_ip(node_id)

    # -- launching and ending --------------------------------------------------------------

    @_plainly
    def create_node(
        self, node_config: dict[str, Any], tags: dict[str, str], count: int
    ) -> dict[str, Any]:
        """`ray up` asks for the head this way."""
        return self._create(node_config, tags, count, {}, {})

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: Mapping[str, float],
        labels: Mapping[str, str],
    ) -> dict[str, Any]:
        """Autoscaler v2 asks for workers this way."""
        return self._create(node_config, tags, count, resources, labels)

    def _create(
        self,
        node_config: Mapping[str, Any],
        tags: Mapping[str, str],
        count: int,
        resources: Mapping[str, float],
        labels: Mapping[str, str],
    ) -> dict[str, Any]:
        request = launch_request(self._cluster, node_config, tags, resources, labels)
        if tags[TAG_RAY_NODE_KIND] == NODE_KIND_HEAD:
            return {self._create_head(request, tags): {}}
        code = self._cluster.store.install_code()
        ids = self._cluster.fleet.launch(request, count, code, {})
        return {identifier: {} for identifier in ids}

    def _create_head(self, request: LaunchRequest, tags: Mapping[str, str]) -> str:
        cluster, store = self._cluster, self._cluster.store
        self._check_launch()
        with sole_launch(cluster):
            store.create(cluster.name)
            if cluster.config.auth == "token":
                store.renew_token()
            store.renew_authority(cluster.config.tls)
            store.forget_head()
            cluster.forget()
            code = store.install_code()
            max_workers = cluster.section["_nodes"]["max_workers"]
            env = bootstrap.autoscaler_env(cluster.config) | bootstrap.demand_env(max_workers)
            workers = first_workers(cluster) if cluster.config.start_together else []
            if workers:
                head_id, *_ = cluster.fleet.launch_together(request, workers, code, env)
            else:
                (head_id,) = cluster.fleet.launch(request, 1, code, env)
            self.set_node_tags(head_id, tags)
        return head_id

    def _check_launch(self) -> None:
        if not self._asked_slurm:
            check_launch(self._cluster)
            self._asked_slurm = True

    @_plainly
    def terminate_node(self, node_id: str) -> None:
        """A head: `ray up` found that its node type changed, and asks for another one next, which
        must not turn out impossible only then."""
        node = self._cluster.fleet.node(node_id)
        if node is not None and node.kind == HEAD and not self._cluster.is_on_head:
            self._check_launch()
        self._cluster.fleet.cancel([node_id])

    @_plainly
    def terminate_nodes(self, node_ids: list[str]) -> None:
        """One scancel for all. `ray down` ends the head with them and closes the cluster for good.

        The autoscaler never ends a head: its own looks dead to it (RAY_STOPPED) while Ray is
        stopped there to be started anew.
        """
        fleet = self._cluster.fleet
        heads = [i for i in node_ids if (node := fleet.node(i)) is not None and node.kind == HEAD]
        if self._cluster.is_on_head:
            node_ids = [i for i in node_ids if i not in heads]
        elif heads:
            self._cluster.store.close()
        fleet.cancel(node_ids)

    def cleanup_cluster_resources(self) -> None:
        """Last step of `ray down`: nothing of the cluster stays, in Slurm or on disk."""
        if not self._has_cluster():
            return
        self._cluster.take_down()

    # -- running commands ------------------------------------------------------------------

    def get_command_runner(
        self,
        log_prefix: str,
        node_id: str,
        auth_config: Mapping[str, Any],
        cluster_name: str,
        process_runner: Any,
        use_internal_ip: bool,
        docker_config: Mapping[str, Any] | None = None,
    ) -> Any:
        from slurm_provider.command_runner import SlurmCommandRunner

        return SlurmCommandRunner(self._cluster, node_id)

    # -- inside ----------------------------------------------------------------------------

    def _has_cluster(self) -> bool:
        return self._cluster.is_on_head or self._cluster.was_made

    def _node(self, node_id: str) -> Node | None:
        if not self._has_cluster():
            return None
        fleet = self._cluster.fleet
        node = fleet.node(node_id)
        if not self._cluster.is_on_head:
            fleet.nodes()
            node = fleet.node(node_id)
        return node

    def _matching(self, nodes: list[Node], tag_filters: Mapping[str, str]) -> list[str]:
        if not tag_filters:
            return [node.node_id for node in nodes]
        wanted = tag_filters.items()
        kind = tag_filters.get(TAG_RAY_NODE_KIND)
        return [
            node.node_id
            for node in nodes
            if (kind is None or node.kind == kind) and wanted <= self._tags(node).items()
        ]

    def _tags(self, node: Node) -> dict[str, str]:
        if not node.tags:
            # What Slurm does not hold is only about the head (`ray up` compares it).
            stored = self._cluster.store.tags(node.node_id) if node.kind == HEAD else {}
            node.tags = {
                TAG_RAY_NODE_STATUS: "up-to-date",
                **stored,
                TAG_RAY_NODE_KIND: node.kind,
                TAG_RAY_USER_NODE_TYPE: node.node_type,
            }
        return node.tags


class _DropEmptyLegacyFields(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "empty legacy field" not in record.getMessage()


def _quieten_config_warnings() -> None:
    # v2 re-reads its configuration every tick and warns twice about fields that Ray itself added.
    logging.getLogger("ray.autoscaler._private.util").addFilter(_DropEmptyLegacyFields())
