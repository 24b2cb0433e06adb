"""The thread that asks Slurm survives everything and comes when it is called."""

from __future__ import annotations

import threading
from typing import Any

from slurm_provider.fleet.watcher import Watcher
from slurm_provider.slurm import SlurmUnavailable

DEADLINE_S = 30


class FakeFleet:
    def __init__(self) -> None:
        self.wake = threading.Event()
        self.failures: list[Exception] = [SlurmUnavailable("silence"), OSError("stale handle")]
        self.good_ticks = threading.Semaphore(0)
        self.interval_s = 0.0

        self.was_asked_at_once = False

    def refresh(self) -> None:
        self.was_asked_at_once = True
        raise SlurmUnavailable("silence")

    def tick(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.interval_s = 10**6
        self.good_ticks.release()

    def poll_interval_s(self) -> float:
        return self.interval_s


def test_it_goes_on_after_failures_and_wakes_up_when_asked() -> None:
    fleet: Any = FakeFleet()
    Watcher(fleet).start()
    assert fleet.was_asked_at_once  # the autoscaler's first tick comes at once
    assert fleet.good_ticks.acquire(timeout=DEADLINE_S)
    fleet.wake.set()
    assert fleet.good_ticks.acquire(timeout=DEADLINE_S)
    assert fleet.failures == []
