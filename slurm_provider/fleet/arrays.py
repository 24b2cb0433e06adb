"""How many nodes of a launch one sbatch may ask for: job arrays, as far as the site takes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import SlurmClient, SlurmError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Limit:
    tasks: int  # of one array
    index: int  # task ids are smaller


_NO_ARRAYS = _Limit(0, 0)


class Arrays:
    """What is known of the site's limits, asked once."""

    def __init__(self, client: SlurmClient) -> None:
        self._client = client
        self._limit: _Limit | None = None
        self._refused: set[str] = set()

    def launch_sizes(self, count: int) -> list[int]:
        """Launches for so many nodes, each of which can be one array.

        One for all while Slurm does not say what it allows, or allows none: ``batch`` does
        without arrays where it must.
        """
        if count == 1:
            return [1]
        try:
            most = self._ask().tasks
        except SlurmError as error:
            logger.warning("%s", error)
            return [count]
        if most < 2:
            return [count]
        return [most] * (count // most) + ([count % most] if count % most else [])

    def ask(self, nodes: Sequence[Node]) -> None:
        """Learn what ``batch`` has to know. Raises SlurmError if Slurm cannot say now."""
        if len(nodes) > 1:
            self._ask()

    def batch(self, nodes: Sequence[Node]) -> list[Node]:
        """The first of these nodes of one launch, as many as the next sbatch may ask for."""
        limit = self._limit or _NO_ARRAYS
        if nodes and nodes[0].node_type in self._refused:
            limit = _NO_ARRAYS
        # Ids beyond the limit are of a launch that was made before the limit was known.
        fitting = [node for node in nodes if node.index < limit.index]
        return fitting[: max(1, limit.tasks)] or list(nodes[:1])

    def refuse(self, node_type: str) -> None:
        """Slurm takes no arrays of this type: from now on its nodes are single jobs."""
        self._refused.add(node_type)

    def _ask(self) -> _Limit:
        if self._limit is None:
            try:
                site = self._client.config()
                self._limit = _Limit(site.max_array_tasks, site.max_array_size)
            except SlurmError as error:
                if error.transient:
                    raise
                logger.warning("the site's MaxArraySize is unknown, so no arrays: %s", error)
                self._limit = _NO_ARRAYS
        return self._limit
