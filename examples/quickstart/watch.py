"""Print how the cluster grows and shrinks, until it has grown and is back at its head alone.

usage: watch.py CONFIG RESULT; leaves the nodes' times (epoch seconds) in RESULT for timeline.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from typing import Any

_DEADLINE_S = 600


def main(config: str, result: str) -> int:
    seen: dict[str, dict[str, Any]] = {}
    last = ""
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        workers = [n for n in _nodes(config) if n["kind"] == "worker"]
        seen.update({n["node_id"]: n for n in workers})
        line = _line(workers)
        if line != last:
            print(f"    {time.strftime('%H:%M:%S')}  {line}", flush=True)
            last = line
        if seen and not workers:
            with open(result, "w") as file:
                json.dump(list(seen.values()), file)
            return 0
        time.sleep(0.5)
    print(f"watch.py: the workers are still there after {_DEADLINE_S} s", file=sys.stderr)
    return 1


def _line(workers: list[dict[str, Any]]) -> str:
    states = Counter(node["state"] for node in workers)
    words = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    hosts = sorted({node["host"] for node in workers if node["host"]})
    return f"workers: {words or 'none'}" + (f" on {' '.join(hosts)}" if hosts else "")


def _nodes(config: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["ray-slurm", "status", "--json", config], capture_output=True, text=True, timeout=60
    )
    return json.loads(done.stdout)["nodes"] if done.returncode == 0 else []


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
