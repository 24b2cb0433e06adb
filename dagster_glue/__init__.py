"""Dagster assets on elastic Ray clusters that Slurm gives and takes.

Ray, paramiko and matplotlib are imported on use, so that code locations load fast.
"""

from __future__ import annotations

from dagster_shared.libraries import DagsterLibraryRegistry

from dagster_glue.clusters.inventory import ClusterInfo, LeaseInfo, SlurmJobInfo
from dagster_glue.components import RayPayloadComponent
from dagster_glue.compute import ComputeResource
from dagster_glue.connection import SSHConnectionResource
from dagster_glue.launchers import BashLauncher, Launcher, RayLauncher
from dagster_glue.modes import ExecutionMode
from dagster_glue.packing import PackConfig
from dagster_glue.reaping import build_reap_job, build_reap_op, build_reap_sensor
from dagster_glue.slurm import (
    SlurmQueueConfig,
    SlurmResource,
    SlurmRunConfig,
    SlurmSessionResource,
)
from slurm_provider import __version__
from slurm_provider.errors import ClusterError, ConfigError

__all__ = [
    "BashLauncher",
    "ClusterError",
    "ClusterInfo",
    "ComputeResource",
    "ConfigError",
    "ExecutionMode",
    "Launcher",
    "LeaseInfo",
    "PackConfig",
    "RayLauncher",
    "RayPayloadComponent",
    "SSHConnectionResource",
    "SlurmJobInfo",
    "SlurmQueueConfig",
    "SlurmResource",
    "SlurmRunConfig",
    "SlurmSessionResource",
    "__version__",
    "build_reap_job",
    "build_reap_op",
    "build_reap_sensor",
]

DagsterLibraryRegistry.register("dagster-glue", __version__, is_dagster_package=False)
