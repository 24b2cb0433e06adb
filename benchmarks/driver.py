"""A Ray driver on the head, commanded by lines of JSON: the same program on both sides.

``{"tasks": 3, "folder": F}`` submits that many tasks of two CPUs and answers with the moments
(epoch seconds) of the submission, of every new node that GCS lists alive, and of every task's
first line. The tasks go on until all have begun, so that each needs a worker of its own.
``{"alive": 1}`` waits until GCS lists exactly so many nodes alive.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import ray

_POLL_S = 0.05
_DEADLINE_S = 170.0


@ray.remote(num_cpus=2, max_retries=0)  # type: ignore[untyped-decorator]  # Ray ships no types
def _first_line(folder: str, number: int, count: int) -> None:
    begun = time.time()
    with open(os.path.join(folder, f".{number}"), "w") as file:
        file.write(str(begun))
    os.rename(os.path.join(folder, f".{number}"), os.path.join(folder, f"begun-{number}"))
    _wait_until(lambda: len(_begun(folder)) == count)


def _run_tasks(count: int, folder: str) -> dict[str, Any]:
    known = _alive()
    alive: dict[str, float] = {}
    submitted = time.time()
    results = [_first_line.remote(folder, number, count) for number in range(count)]

    def all_begun() -> bool:
        for node_id in _alive() - known:
            alive.setdefault(node_id, time.time())
        return len(alive) >= count and len(_begun(folder)) == count

    _wait_until(all_begun)
    begun = []
    for name in _begun(folder):
        with open(os.path.join(folder, name)) as file:
            begun.append(float(file.read()))
    ray.get(results, timeout=60)
    return {"submitted": submitted, "alive": sorted(alive.values()), "begun": sorted(begun)}


def _alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


def _begun(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith("begun-")]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {_DEADLINE_S:.0f} s")
        time.sleep(_POLL_S)


def _obey(command: dict[str, Any]) -> dict[str, Any]:
    if "tasks" in command:
        return _run_tasks(command["tasks"], command["folder"])
    _wait_until(lambda: len(_alive()) == command["alive"])
    return {"alive": command["alive"]}


def main() -> None:
    """Connect, say so, obey until standard input ends."""
    ray.init(log_to_driver=False, logging_level="error")
    print(json.dumps({"connected": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
