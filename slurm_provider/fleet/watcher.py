"""The thread on the head that keeps a fleet's view of Slurm fresh."""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from slurm_provider.fleet.fleet import Fleet
from slurm_provider.slurm import SlurmError

logger = logging.getLogger(__name__)

_SETTLE_S = 0.2  # a burst of launches is one listing, not many


class Watcher:
    """Ticks a fleet, at its own pace or as soon as it asks for it."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def start(self) -> None:
        """Look once, so that the autoscaler's first tick finds something known; then go on."""
        with contextlib.suppress(SlurmError):  # the first tick of the thread says it again
            self._fleet.refresh()
        threading.Thread(target=self._run, name="slurm-watch", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self._fleet.tick()
            except SlurmError as error:
                logger.warning("asking Slurm failed, keeping the last view: %s", error)
            except Exception:
                # The thread is the autoscaler's only eye on Slurm: it must outlive any surprise.
                logger.exception("the Slurm watcher failed once")
            self._fleet.wake.wait(self._fleet.poll_interval_s())
            self._fleet.wake.clear()
            time.sleep(_SETTLE_S)
