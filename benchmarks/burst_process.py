"""The provider's side of (f), run as the sandbox's user: ``burst_process.py FOLDER NAME COUNT``.

The provider works as in the autoscaler on the head, with its watcher; only the jobs' script is
replaced (``FOLDER/sleep.sh``). Prints the moments (epoch seconds) as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from unittest.mock import patch

from ray.autoscaler.tags import NODE_KIND_WORKER, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

from slurm_provider.cluster import Cluster
from slurm_provider.fleet.fleet import Fleet
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.node_provider import SlurmNodeProvider

_NODE_CONFIG = {"partition": "compute", "time": "00:10:00", "cpus-per-task": 1, "mem": "10M"}
_TIMEOUT_S = 120.0


def main(folder: str, name: str, count: int) -> dict[str, float]:
    """Launch, see all of them in a listing, cancel."""
    section = {
        "type": "external",
        "cluster_dir": f"{folder}/cluster",
        "_on_head": True,
        "head_placement": "edge",  # this cluster has no head in Slurm's queue
    }
    cluster = Cluster(section, name)
    cluster.store.create(name)
    provider = SlurmNodeProvider(section, name, cluster)
    tags = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER, TAG_RAY_USER_NODE_TYPE: "cpu"}
    with patch.object(ClusterStore, "node_script", f"{folder}/sleep.sh"):
        start = time.time()
        provider.create_node_with_resources_and_labels(_NODE_CONFIG, tags, count, {"CPU": 1}, {})
        submitted = time.time()
        ids = _listed(provider, cluster.fleet, count)
        listed = time.time()
        provider.terminate_nodes(ids)
        return {"start": start, "submitted": submitted, "listed": listed, "cancelled": time.time()}


def _listed(provider: SlurmNodeProvider, fleet: Fleet, count: int) -> list[str]:
    """Ids of the nodes once Slurm itself has listed all of them."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        ids: list[str] = provider.non_terminated_nodes({})
        nodes = [fleet.node(node_id) for node_id in ids]
        if len([node for node in nodes if node is not None and node.job is not None]) == count:
            return ids
        if time.monotonic() > deadline:
            sys.exit(f"Slurm did not list {count} nodes within {_TIMEOUT_S:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
