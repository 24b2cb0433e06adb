"""Which Ray this works with."""

from __future__ import annotations

from slurm_provider.errors import ConfigError

OLDEST_RAY = (2, 52)
OLDEST_RAY_WITH_TLS = (2, 55)  # whose raylet can be told of its agent's port (agent/tls_worker.py)


def check_ray_version(*, tls: bool = False) -> None:
    """Raise ConfigError for a Ray that is too old, for `provider.tls` if it is asked for."""
    import ray

    if version_tuple(ray.__version__) < OLDEST_RAY:
        raise ConfigError(
            f"Ray {ray.__version__} is not supported: before 2.52 anybody who reaches its ports "
            "can run code as you (CVE-2025-62593, no token authentication). "
            "Install ray[default]>=2.52"
        )
    if tls and version_tuple(ray.__version__) < OLDEST_RAY_WITH_TLS:
        raise ConfigError(
            f"provider.tls needs Ray 2.55, and this is Ray {ray.__version__}, which would still "
            "send its token in clear. Install ray[default]>=2.55, or remove provider.tls"
        )


def version_tuple(text: str) -> tuple[int, int]:
    """(major, minor) of a version such as ``2.60.0`` or ``3.0.0.dev0``."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
