"""Ray's autoscaler on Slurm: one Ray node is one Slurm job.

``SlurmNodeProvider`` is the only name Ray needs (``provider.module`` in the cluster YAML).
It is loaded on first use: the node agent lives in the same package and starts on every node,
so importing ``slurm_provider`` must cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["SlurmNodeProvider", "__version__"]

if TYPE_CHECKING:
    from slurm_provider.node_provider import SlurmNodeProvider


def __getattr__(name: str) -> Any:
    if name == "SlurmNodeProvider":
        from slurm_provider.node_provider import SlurmNodeProvider

        return SlurmNodeProvider
    raise AttributeError(f"module 'slurm_provider' has no attribute {name!r}")
