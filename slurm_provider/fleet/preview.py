"""What would be submitted for a node type; nothing is submitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slurm_provider.config import ProviderConfig
from slurm_provider.errors import ConfigError
from slurm_provider.fleet.identity import HEAD, WORKER, JobIdentity
from slurm_provider.fleet.launch import (
    LaunchRequest,
    activation,
    provider_options,
    request_for,
)
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.node_types import read_node_type
from slurm_provider.slurm import Component, SlurmError, Submission

if TYPE_CHECKING:
    from slurm_provider.cluster import Cluster

LAUNCH = "LAUNCH"
"""Stands for the launch id, which is made when a launch is submitted."""
UUID = "UUID"
"""Stands for the cluster's uuid as long as there is no cluster."""


@dataclass(frozen=True)
class Preview:
    """One launch of a node type."""

    submission: Submission
    activation: str
    """Shell lines that the job script sources."""


def preview(cluster: Cluster, config: Mapping[str, Any], node_type: str, count: int = 1) -> Preview:
    """The launch of ``count`` nodes; ``config`` is a cluster YAML after ``bootstrap.resolve``.

    Raises ConfigError for the head of a cluster whose head is no Slurm job.
    """
    is_head = node_type == config["head_node_type"]
    if is_head and cluster.config.head_placement == "edge":
        raise ConfigError(
            f"node type {node_type!r} is the head, and provider.head_placement is edge: it is "
            "started on the edge node, and no job is submitted for it"
        )
    request = _request(config, node_type, HEAD if is_head else WORKER)
    uuid = cluster.store.uuid() or UUID
    identity = JobIdentity(cluster.name, node_type, uuid, request.kind, LAUNCH)
    submission = submission_for(
        identity, request, cluster.config, cluster.store, cluster.store.code_path, range(count)
    )
    lines = activation(cluster.config.environment, cluster.store.unpack_script)
    return Preview(submission, lines)


def submission_for(
    identity: JobIdentity,
    request: LaunchRequest,
    config: ProviderConfig,
    store: ClusterStore,
    code: str,
    indices: Sequence[int],
) -> Submission:
    """The sbatch of a launch (``identity`` without an index): one job, or an array of its nodes."""
    is_array = len(indices) > 1
    own_index = []
    if not is_array:
        identity = replace(identity, index=indices[0])
        # Slurm tells only the tasks of an array which one they are.
        own_index = [str(indices[0])] if indices[0] else []
    return Submission(
        script=store.node_script,
        args=[store.paths.root, code, identity.launch, *own_index],
        options=request.options,
        provider_options=provider_options(identity, request, config, store.paths),
        array_tasks=list(indices) if is_array else None,
    )


def joint_submission(
    components: Sequence[tuple[JobIdentity, LaunchRequest]],
    config: ProviderConfig,
    store: ClusterStore,
    code: str,
) -> Submission:
    """The sbatch of nodes that start together: one heterogeneous job, each node a component.

    Identities have an index. The first node's agent starts the others' (agent/components.py).
    """
    first, *others = [
        Component(
            request.options,
            provider_options(identity, request, config, store.paths, has_script=number == 0),
        )
        for number, (identity, request) in enumerate(components)
    ]
    return Submission(
        script=store.node_script,
        args=[store.paths.root, code, components[0][0].launch],
        options=first.options,
        provider_options=first.provider_options,
        more_components=others,
    )


def check_hosts(cluster: Cluster, requests: Sequence[tuple[LaunchRequest, int]]) -> None:
    """Refuse a heterogeneous job that would wait for ever without a word of Slurm's: its backfill
    plans every component on a host of its own (22.05). Raises ConfigError.
    """
    try:
        partitions = cluster.client.partitions()
    except SlurmError:
        return  # unknown is not too few
    hosts = {partition.name: partition.host_count for partition in partitions}
    default = next((partition.name for partition in partitions if partition.is_default), "")
    asked = {
        name
        for request, _ in requests
        for name in str(request.options.get("partition", default)).split(",")
    }
    count = sum(number for _, number in requests)
    if asked <= hosts.keys() and count > sum(hosts[name] for name in asked):
        raise ConfigError(
            f"provider.start_together: {count} nodes are more than the hosts of partition "
            f"{', '.join(sorted(asked))} ({sum(hosts[name] for name in asked)}), and Slurm starts "
            "each component of a heterogeneous job on a host of its own; ask for fewer min_workers"
        )


def _request(config: Mapping[str, Any], name: str, kind: str) -> LaunchRequest:
    given = config["provider"].get("_given_resources", {}).get(name, {})
    section = config["available_node_types"][name]
    # resolve() has merged the defaults into node_config.
    checked = read_node_type(name, {"node_config": section["node_config"], "resources": given}, {})
    return request_for(kind, checked)
