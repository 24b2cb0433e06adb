"""What speaks against a cluster, found out before anything is changed for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ray.autoscaler._private.cli_logger import cli_logger

from slurm_provider.cluster import Cluster
from slurm_provider.errors import ConfigError
from slurm_provider.fleet.preview import check_hosts
from slurm_provider.fleet.verdicts import test_node_types, told_once
from slurm_provider.launch_requests import first_workers, head_request
from slurm_provider.slurm import SlurmRefused


def check_launch(cluster: Cluster) -> None:
    """Before a new head. Raises ConfigError, ClusterError, SlurmError or TransportError."""
    check_mounts(cluster)
    if cluster.config.start_together:
        check_hosts(cluster, [(head_request(cluster), 1), *first_workers(cluster)])
    types = cluster.section["_nodes"]
    check_node_types(
        cluster,
        {
            "provider": cluster.section,
            "head_node_type": types["head"],
            "available_node_types": {
                name: {"node_config": options} for name, options in types["options"].items()
            },
        },
    )


def check_mounts(cluster: Cluster) -> None:
    """Raises ConfigError for files that are to be copied from here and are not here."""
    for source in cluster.section["_nodes"]["mount_sources"]:
        if not os.path.exists(os.path.expanduser(source)):
            raise ConfigError(
                f"file_mounts: {source} does not exist on this machine, from which it is to "
                "be copied to the nodes; mend the path"
            )


def check_tls(cluster: Cluster) -> None:
    """Raises ConfigError for a running head with another `provider.tls`: no node launched now could
    talk to it."""
    launched = cluster.store.uses_tls()
    if launched != cluster.config.tls:
        without = "with" if launched else "without"
        raise ConfigError(
            f"provider.tls is {str(cluster.config.tls).lower()}, and the head of cluster "
            f"{cluster.name!r} was launched {without} TLS; run `ray down` first, or set it back"
        )


def check_node_types(cluster: Cluster, config: Mapping[str, Any]) -> None:
    """Ask Slurm once per node type whether it can ever run; raises SlurmRefused with its words,
    and prints what may go away by itself."""
    verdicts = test_node_types(cluster, config)
    told = told_once(verdicts)
    never = [f"{names}: {v.problem}" for names, v in told if not v.transient]
    if never:
        raise SlurmRefused("\n".join(never))
    for names, verdict in told:
        cli_logger.warning("{}: {}", names, verdict.problem)
    for verdict in verdicts:
        for words in verdict.warnings:
            cli_logger.warning("node type {!r}: {}", verdict.node_type, words)
