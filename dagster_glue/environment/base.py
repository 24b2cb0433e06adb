"""What a packed or installed environment is to a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from slurm_provider.transport import Transport

Log = Callable[[str], None]


class EnvironmentFailed(RuntimeError):
    """The environment cannot be had; the message says why and what to do."""


class Environment(Protocol):
    """How Ray and the payload's packages get onto every host."""

    def ensure(
        self, transport: Transport, base_dir: str, log: Log, *, force: bool = False
    ) -> dict[str, str]:
        """Make it available and return the ``provider.environment`` section of a cluster YAML.

        ``base_dir`` is an absolute folder on the file system that all hosts share; ``log`` takes
        sentences about what happens. ``force`` packs and uploads again what is there already.

        Raises EnvironmentFailed, and TransportError when the other side cannot be reached.
        """
        ...
