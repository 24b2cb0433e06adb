"""What the parts of a fleet share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from slurm_provider.fleet.brake import Brake
from slurm_provider.fleet.ledger import Ledger


@dataclass
class FleetState:
    """On the head four threads meet here: Ray's loop (lists), its launch pool, its terminate
    thread and the watcher. All of it is touched under ``lock`` only; no Slurm command and no file
    is waited for while holding it.
    """

    ledger: Ledger
    brake: Brake = field(default_factory=Brake)
    listed_at: float | None = None  # when the listing that the ledger last took in was asked for
    lock: threading.RLock = field(default_factory=threading.RLock)
