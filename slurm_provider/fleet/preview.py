"""What would be submitted for a node type, and what Slurm thinks of it; nothing is submitted."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from slurm_provider.slurm import Component, SlurmClient, SlurmError, SlurmLimited, Submission

if TYPE_CHECKING:
    from slurm_provider.cluster import Cluster

LAUNCH = "LAUNCH"
"""Stands for the launch id, which is made when a launch is submitted."""
UUID = "UUID"
"""Stands for the cluster's uuid as long as there is no cluster."""
_JOB_SCRIPT = b"#!/bin/sh\n"


@dataclass(frozen=True)
class Preview:
    """One launch of a node type."""

    submission: Submission
    activation: str
    """Shell lines that the job script sources."""


@dataclass(frozen=True)
class TypeVerdict:
    """Slurm's opinion of a node type."""

    node_type: str
    problem: str | None
    """Why it cannot run, with Slurm's words and the next step; None if it can."""
    transient: bool = False
    """The problem may go away by itself: a partition is down, a quota is used up."""
    expected_start: float | None = None
    """Epoch seconds; Slurm's guess for a job submitted now."""


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


def test_node_types(cluster: Cluster, config: Mapping[str, Any]) -> list[TypeVerdict]:
    """Ask Slurm about every node type (`sbatch --test-only`), in the order of the YAML.

    A head on the edge node is left out. Raises SlurmUnavailable, SlurmMissing, TransportError.
    """
    on_edge = cluster.config.head_placement == "edge"
    names = [
        name
        for name in config["available_node_types"]
        if not (on_edge and name == config["head_node_type"])
    ]
    # sbatch reads the script, and there is none before the cluster's directory is made.
    script = f"{cluster.store.paths.root}.test-{secrets.token_hex(4)}.sh"
    transport = cluster.store.transport
    transport.write_file(script, _JOB_SCRIPT, mode=0o700)
    try:
        hints = _Hints(cluster.client)
        # At once: `ray up` waits for the answers before it submits anything.
        with ThreadPoolExecutor(max_workers=4) as pool:
            return list(
                pool.map(lambda name: _verdict(cluster, config, name, script, hints), names)
            )
    finally:
        transport.remove_tree(script)


def _verdict(
    cluster: Cluster, config: Mapping[str, Any], name: str, script: str, hints: _Hints
) -> TypeVerdict:
    planned = preview(cluster, config, name).submission
    submission = Submission(
        script=script, options=planned.options, provider_options=planned.provider_options
    )
    try:
        verdict = cluster.client.test_only(submission)
    except SlurmLimited as error:
        return TypeVerdict(name, f"Slurm takes no such job now: {error}", transient=True)
    if verdict.accepted:
        return TypeVerdict(name, None, expected_start=verdict.expected_start)
    return TypeVerdict(name, f"Slurm refused it: {verdict.words}{hints.about(verdict.words)}")


class _Hints:
    """What the site has instead, asked once and only if something was refused."""

    def __init__(self, client: SlurmClient) -> None:
        self._client = client
        self._texts: dict[str, str] = {}

    def about(self, words: str) -> str:
        """A sentence to append to Slurm's words, or nothing."""
        lower = words.lower()
        for topic in ("account", "qos", "partition"):
            if topic in lower:
                if topic not in self._texts:
                    self._texts[topic] = self._ask(topic)
                return self._texts[topic]
        return ""

    def _ask(self, topic: str) -> str:
        try:
            if topic == "partition":
                names = [partition.name for partition in self._client.partitions()]
                return f". Partitions here: {', '.join(names)}"
            found = self._client.accounts().associations
        except SlurmError:
            return ""  # a refusal to explain the refusal would hide it
        if topic == "account":
            names = sorted({association.account for association in found})
            return f". Your accounts: {', '.join(names)}" if names else ""
        qos = sorted({name for association in found for name in association.qos})
        return f". Your QOS: {', '.join(qos)}" if qos else ""


def _request(config: Mapping[str, Any], name: str, kind: str) -> LaunchRequest:
    given = config["provider"].get("_given_resources", {}).get(name, {})
    section = config["available_node_types"][name]
    # resolve() has merged the defaults into node_config.
    checked = read_node_type(name, {"node_config": section["node_config"], "resources": given}, {})
    return request_for(kind, checked)
