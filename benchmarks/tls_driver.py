"""A Ray driver on the head that talks to a worker on another host; the same program with TLS and
without.

For each line on standard input it answers with one of JSON: seconds by what was done.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

TASKS = 1000
CALLS = 1000
OBJECT_MB = 50
_POLL_S = 0.2
_FAR = {"far": 0.001}  # a resource of the worker's node type


@ray.remote(num_cpus=1, resources=_FAR)  # type: ignore[untyped-decorator]  # Ray ships no types
def _nothing(number: int) -> int:
    return number


@ray.remote(num_cpus=0, resources=_FAR)
class _Far:
    def echo(self, number: int) -> int:
        return number

    def many_bytes(self, megabytes: int) -> bytes:
        return os.urandom(megabytes << 20)


def _measure(far: Any) -> dict[str, float]:
    return {
        "tasks": _timed(lambda: ray.get([_nothing.remote(i) for i in range(TASKS)])),
        "calls in flight": _timed(lambda: ray.get([far.echo.remote(i) for i in range(CALLS)])),
        "calls in turn": _timed(lambda: [ray.get(far.echo.remote(i)) for i in range(CALLS)]),
        "object": _fetched(far),
    }


def _fetched(far: Any) -> float:
    """From the moment at which the object is complete on the worker."""
    made = far.many_bytes.remote(OBJECT_MB)
    ray.wait([made], fetch_local=False)
    return _timed(lambda: ray.get(made))


def _timed(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Connect, say so, measure once for each line until standard input ends."""
    ray.init(log_to_driver=False, logging_level="error")
    # Or Ray complains of tasks without a node, between our lines.
    request_resources(bundles=[{"CPU": 1, "far": 1}])
    while "far" not in ray.cluster_resources():
        time.sleep(_POLL_S)
    far = _Far.remote()  # type: ignore[attr-defined]
    _measure(far)  # processes and connections that a first round would wait for
    print(json.dumps({"connected": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(_measure(far)), flush=True)


if __name__ == "__main__":
    main()
