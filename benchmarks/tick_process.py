"""One measurement of (e), in a process of its own: ``python -m benchmarks.tick_process SIZE``.

The real provider under Ray's own adapter, over a squeue whose answer is a generated text: parsing
and everything after it is real, and every command is counted. Neither Slurm nor Ray runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import ClassVar
from unittest.mock import patch

from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter

from benchmarks.waiting import wait_for
from slurm_provider.cluster import Cluster
from slurm_provider.fleet.fleet import Fleet
from slurm_provider.fleet.identity import HEAD, WORKER, JobIdentity
from slurm_provider.node_provider import SlurmNodeProvider
from slurm_provider.slurm.queue import FIELD_SEPARATOR, RECORD_END, queue_argv
from slurm_provider.transport import Completed, LocalTransport

_UUID = "0123456789ab"
_ARRAY = 1000  # nodes of one launch
_PENDING_EVERY = 10  # one node in so many waits, so that the watcher looks at its fast pace
_SAMPLES = 20
_WATCHED_TICKS = 15  # of a second: several of the watcher's listings
_HEADINGS = ("JOBID", "JOBID", "STATE", "REASON", "PARTITION", "NODELIST", "SUBMIT_TIME",
             "START_TIME", "END_TIME", "TIME_LIMIT", "CPUS", "NAME")  # fmt: skip


class CountingSlurm(LocalTransport):
    """Answers squeue with a text, refuses every other command, counts."""

    listing = ""
    commands = 0

    def run(
        self, argv: Sequence[str], *, timeout_s: float, stdin: bytes | None = None
    ) -> Completed:
        assert list(argv) == queue_argv(), f"a tick ran {argv}"
        CountingSlurm.commands += 1
        return Completed(tuple(argv), 0, CountingSlurm.listing, "")


def squeue_text(size: int) -> str:
    """What squeue prints for a head and its workers, ``size`` nodes in all."""
    now = int(time.time())
    head = JobIdentity("bench", "head", _UUID, HEAD, "aaaaaaaaaa", 0)
    lines = [FIELD_SEPARATOR.join(_HEADINGS), _record("1", "1", head.job_name, now, False)]
    for number in range(size - 1):
        launch, task = divmod(number, _ARRAY)
        name = JobIdentity("bench", "cpu", _UUID, WORKER, f"launch{launch:04}").job_name
        pending = number % _PENDING_EVERY == 0
        lines.append(_record(f"{launch + 2}_{task}", str(number + 100), name, now, pending))
    return "".join(f"{line}{RECORD_END}\n" for line in lines)


class TimedFleet(Fleet):
    """A fleet that notes the CPU time of each of the watcher's ticks."""

    ticks_ms: ClassVar[list[float]] = []

    def tick(self) -> None:
        TimedFleet.ticks_ms.append(_cpu_ms(super().tick))


def main(size: int) -> dict[str, float]:
    """CPU milliseconds (medians) and commands."""
    CountingSlurm.listing = squeue_text(size)
    with (
        TemporaryDirectory() as folder,
        patch("slurm_provider.cluster.LocalTransport", CountingSlurm),
        patch("slurm_provider.cluster.Fleet", TimedFleet),
    ):
        Path(folder, "cluster.json").write_text(json.dumps({"uuid": _UUID, "name": "bench"}))
        section = {"type": "external", "cluster_dir": folder, "_on_head": True}
        cluster = Cluster(section, "bench")
        provider = SlurmNodeProvider(section, "bench", cluster)
        wait_for("the watcher's first listing", lambda: TimedFleet.ticks_ms, 60)
        tick = NodeProviderAdapter(provider, config_reader=None).get_non_terminated

        before = CountingSlurm.commands
        for _ in range(_WATCHED_TICKS):
            assert len(tick()) == size
            time.sleep(1)
        per_tick = (CountingSlurm.commands - before) / _WATCHED_TICKS

        before = CountingSlurm.commands
        listings_ms = [_listing_ms(cluster.fleet) for _ in range(_SAMPLES)]
        return {
            "tick_ms": median(_cpu_ms(tick) for _ in range(_SAMPLES)),
            "listing_ms": median(listings_ms),
            "commands_per_listing": (CountingSlurm.commands - before) / _SAMPLES,
            "commands_per_tick": per_tick,
        }


def _listing_ms(fleet: Fleet) -> float:
    """CPU time of one more listing, which the watcher is asked for."""
    count = len(TimedFleet.ticks_ms)
    fleet.wake.set()
    wait_for("a listing", lambda: len(TimedFleet.ticks_ms) > count, 60)
    return TimedFleet.ticks_ms[-1]


def _cpu_ms(function: Callable[[], object]) -> float:
    """CPU time of this thread in a call, without what others do meanwhile."""
    start = time.thread_time()
    function()
    return (time.thread_time() - start) * 1000


def _record(job_id: str, raw_id: str, name: str, now: int, is_pending: bool) -> str:
    state, reason = ("PENDING", "Resources") if is_pending else ("RUNNING", "None")
    times = ("N/A", "N/A") if is_pending else (str(now - 60), str(now + 3540))
    fields = (job_id, raw_id, state, reason, "compute", "" if is_pending else f"n{raw_id}",
              str(now - 70), *times, "1:00:00", "2", name)  # fmt: skip
    return FIELD_SEPARATOR.join(fields)


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
