"""What Ray asks the provider for, as launch requests (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    TAG_RAY_NODE_KIND,
    TAG_RAY_USER_NODE_TYPE,
)

from slurm_provider.cluster import Cluster
from slurm_provider.fleet.identity import HEAD, WORKER
from slurm_provider.fleet.launch import LaunchRequest, request_for
from slurm_provider.node_types import read_node_type


def launch_request(
    cluster: Cluster,
    node_config: Mapping[str, Any],
    tags: Mapping[str, str],
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
) -> LaunchRequest:
    """One node of the type that ``tags`` name. Ray gives resources and labels for workers only.

    Raises ConfigError for a node type that cannot be.
    """
    name = tags[TAG_RAY_USER_NODE_TYPE]
    section = cluster.section
    given = section.get("_given_resources", {}).get(name, {})
    planned = section.get("_nodes", {})
    labels = labels or planned.get("labels", {}).get(name, {})
    checked = read_node_type(
        name, {"node_config": node_config, "resources": given, "labels": labels}, {}
    )
    if tags[TAG_RAY_NODE_KIND] == NODE_KIND_HEAD:
        # Its commands and files come by `ray up` itself, through the command runner.
        return replace(
            request_for(HEAD, checked),
            resources=resources or checked.resources,
            on_edge=cluster.config.head_placement == "edge",
        )
    return replace(
        request_for(WORKER, checked),
        resources=resources or checked.resources,
        initialization_commands=tuple(planned.get("initialization_commands", ())),
        setup_commands=tuple(planned.get("setup_commands", {}).get(name, ())),
        file_mounts=tuple((cluster.store.staged(m), m) for m in planned.get("file_mounts", [])),
    )


def head_request(cluster: Cluster) -> LaunchRequest:
    """The head, as the YAML describes it."""
    types = cluster.section["_nodes"]
    tags = {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: types["head"]}
    return launch_request(cluster, types["options"][types["head"]], tags)


def first_workers(cluster: Cluster) -> list[tuple[LaunchRequest, int]]:
    """What the autoscaler would ask for first: the smallest number of each type."""
    types, found = cluster.section["_nodes"], []
    for name, count in types["min_workers"].items():
        tags = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER, TAG_RAY_USER_NODE_TYPE: name}
        found.append((launch_request(cluster, types["options"][name], tags), count))
    return found
