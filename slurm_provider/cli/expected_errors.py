"""What can go wrong without being a fault of this program."""

from __future__ import annotations

from slurm_provider.errors import ClusterError, ConfigError
from slurm_provider.slurm.errors import SlurmError
from slurm_provider.slurm.options import OptionError
from slurm_provider.transport.base import TransportError

EXPECTED = (ConfigError, ClusterError, OptionError, SlurmError, TransportError, OSError)


def sentence(error: BaseException) -> str:
    """The message for a person; an OSError names its file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
