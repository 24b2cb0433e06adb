"""Print how the cluster grows and shrinks, until the sweep is over and only the head is left.

usage: watch.py CONFIG TIMES RESULT. The sweep writes TIMES when it is over; before that, workers
may all be gone and be replaced. Leaves the nodes' times (epoch seconds) in RESULT for timeline.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from typing import Any

_DEADLINE_S = 600


def main(config: str, times: str, result: str) -> int:
    seen: dict[str, dict[str, Any]] = {}
    last = ""
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        nodes = _nodes(config)
        if nodes is None:  # unknown is not gone
            time.sleep(0.5)
            continue
        workers = [n for n in nodes if n["kind"] == "worker"]
        seen.update({n["node_id"]: n for n in workers})
        line = _line(workers)
        if line != last:
            print(f"    {time.strftime('%H:%M:%S')}  {line}", flush=True)
            last = line
        if os.path.exists(times) and not workers:
            with open(result, "w") as file:
                json.dump(list(seen.values()), file)
            return 0
        time.sleep(0.5)
    print(f"watch.py: not over after {_DEADLINE_S} s; last: {last}", file=sys.stderr)
    return 1


def _line(workers: list[dict[str, Any]]) -> str:
    states = Counter(node["state"] for node in workers)
    words = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    hosts = sorted({node["host"] for node in workers if node["host"]})
    return f"workers: {words or 'none'}" + (f" on {' '.join(hosts)}" if hosts else "")


def _nodes(config: str) -> list[dict[str, Any]] | None:
    """The cluster's nodes; None if Slurm did not answer."""
    done = subprocess.run(
        ["ray-slurm", "status", "--json", config], capture_output=True, text=True, timeout=60
    )
    return json.loads(done.stdout)["nodes"] if done.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
