"""The payload of every side: eight Ray tasks of 0.2 s on two nodes of two CPUs.

It waits until the cluster has all four CPUs, so that no side is done with half of it, and writes
its own moments (epoch seconds) to the file ``BENCH_MOMENTS``, a variable or an extra of Pipes.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

begun = time.time()

import ray  # noqa: E402  # the import's time is measured
from dagster_pipes import open_dagster_pipes  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

_CPUS = 4
_TASKS_PER_NODE = 4
_DEADLINE_S = 120.0


@ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
def _work() -> str:
    time.sleep(0.2)
    return str(ray.get_runtime_context().get_node_id())


def main() -> None:
    moments = {"payload runs": begun, "its imports are done": time.time()}
    with open_dagster_pipes() as pipes:
        ray.init(address="auto")
        moments["it is connected"] = time.time()
        deadline = time.monotonic() + _DEADLINE_S
        while ray.cluster_resources().get("CPU", 0) < _CPUS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the cluster has only {ray.cluster_resources()}")
            time.sleep(0.05)
        moments["it has 4 CPUs"] = time.time()
        nodes = [node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU")]
        found = ray.get([_on(node).remote() for node in nodes * _TASKS_PER_NODE])
        moments["its tasks are done"] = time.time()
        pipes.report_asset_materialization(metadata={"tasks": len(found)})
        path = os.environ.get("BENCH_MOMENTS") or pipes.get_extra("BENCH_MOMENTS")
        with open(path, "w") as file:
            json.dump({"nodes": len(set(found)), "tasks": len(found), "moments": moments}, file)


def _on(node: str) -> Any:
    return _work.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


main()
