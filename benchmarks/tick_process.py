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
from unittest.mock import patch

from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter

from benchmarks.waiting import wait_for
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
    lines = [FIELD_SEPARATOR.join(_HEADINGS) + "\n", _record("1", "1", head.job_name, now, False)]
    for number in range(size - 1):
        launch, task = divmod(number, _ARRAY)
        name = JobIdentity("bench", "cpu", _UUID, WORKER, f"launch{launch:04}").job_name
        pending = number % _PENDING_EVERY == 0
        lines.append(_record(f"{launch + 2}_{task}", str(number + 100), name, now, pending))
    return lines[0] + "".join(f"{line}{RECORD_END}\n" for line in lines[1:])


def main(size: int) -> dict[str, float]:
    """CPU milliseconds (medians) and commands."""
    CountingSlurm.listing = squeue_text(size)
    with (
        TemporaryDirectory() as folder,
        patch("slurm_provider.cluster.LocalTransport", CountingSlurm),
    ):
        Path(folder, "cluster.json").write_text(json.dumps({"uuid": _UUID, "name": "bench"}))
        section = {"type": "external", "cluster_dir": folder, "_on_head": True}
        provider = SlurmNodeProvider(section, "bench")
        tick = NodeProviderAdapter(provider, config_reader=None).get_non_terminated
        fleet = provider._cluster.fleet
        wait_for("the watcher's first listing", lambda: len(fleet._ledger.live()) == size, 60)

        before = CountingSlurm.commands
        for _ in range(_WATCHED_TICKS):
            assert len(tick()) == size
            time.sleep(1)
        per_tick = (CountingSlurm.commands - before) / _WATCHED_TICKS
        before = CountingSlurm.commands
        listing_ms = _cpu_ms(fleet.refresh)
        per_listing = (CountingSlurm.commands - before) / _SAMPLES
        return {
            "tick_ms": _cpu_ms(tick),
            "listing_ms": listing_ms,
            "commands_per_listing": per_listing,
            "commands_per_tick": per_tick,
        }


def _cpu_ms(function: Callable[[], object]) -> float:
    """Median CPU time of this thread, without what others do meanwhile."""
    samples = []
    for _ in range(_SAMPLES):
        start = time.thread_time()
        function()
        samples.append((time.thread_time() - start) * 1000)
    return median(samples)


def _record(job_id: str, raw_id: str, name: str, now: int, is_pending: bool) -> str:
    state, reason = ("PENDING", "Resources") if is_pending else ("RUNNING", "None")
    times = ("N/A", "N/A") if is_pending else (str(now - 60), str(now + 3540))
    fields = (job_id, raw_id, state, reason, "compute", "" if is_pending else f"n{raw_id}",
              str(now - 70), *times, "1:00:00", "2", name)  # fmt: skip
    return FIELD_SEPARATOR.join(fields)


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
