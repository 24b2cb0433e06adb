"""Print when the demand became nodes. usage: timeline.py TIMES NODES"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(times_path: str, nodes_path: str) -> None:
    with open(times_path) as file:
        times = json.load(file)
    with open(nodes_path) as file:
        nodes = json.load(file)
    moments = [
        ("demand: 10 trials of 1 CPU, no worker", times["demand"]),
        ("first job submitted", _first(nodes, "submit_time")),
        ("first job running", _first(nodes, "start_time")),
        ("first node joined Ray", _first(nodes, "joined_time")),
        ("first task running", times["first_task"]),
    ]
    for what, moment in moments:
        # Slurm's own times are whole seconds.
        print(f"{max(0.0, moment - times['demand']):7.1f} s  {what}")
    joined = [node for node in nodes if node["joined_time"] is not None]
    hosts = sorted({node["host"] for node in joined})
    print(f"{len(joined)} workers on {len(hosts)} hosts ({', '.join(hosts)})")


def _first(nodes: list[dict[str, Any]], key: str) -> float:
    return min(node[key] for node in nodes if node[key] is not None)


if __name__ == "__main__":
    main(*sys.argv[1:])
