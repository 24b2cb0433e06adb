"""Tell Ray that this node will go at a known time, as a preemption and not as a failure."""

from __future__ import annotations

import sys
import time


def drain(gcs_address: str, node_id: str, remaining_s: int) -> int:
    """Ask GCS to drain the Ray node whose instance id is ``node_id``.

    The node takes no new work, the autoscaler replaces it at once for the demand it leaves, and
    what dies at the deadline is retried as preempted. Ray does not enforce the deadline.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # missing in its stub file
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    client = GcsClient(address=gcs_address)
    nodes = client.get_all_node_info(timeout=10)
    for raw_id, info in nodes.items():
        if info.instance_id == node_id and info.state == 0:  # GcsNodeInfo.ALIVE
            accepted, why = client.drain_node(
                raw_id.hex(),
                int(DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")),
                "the end of its Slurm job is near",
                int((time.time() + remaining_s) * 1000),
            )
            print(f"[agent] drain {'accepted' if accepted else f'refused: {why}'}", flush=True)
            return 0 if accepted else 1
    print(f"[agent] drain: Ray knows no living node {node_id}", file=sys.stderr, flush=True)
    return 1
