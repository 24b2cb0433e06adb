"""The cluster of one run, by mode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_glue.cluster_config import ClusterPlan, cluster_config
from dagster_glue.clusters.base import ClusterAccess
from dagster_glue.launchers import Launcher, RayLauncher
from dagster_glue.modes import ExecutionMode
from dagster_glue.slurm import SlurmResource
from slurm_provider.errors import ConfigError

if TYPE_CHECKING:
    from dagster_glue.environment.base import Environment


@dataclass(frozen=True)
class ClusterRequest:
    """What a run wants of a cluster."""

    mode: ExecutionMode
    launcher: Launcher
    run_id: str
    step_key: str
    default_launcher: Launcher | None = None
    slurm: SlurmResource | None = None
    slurm_opts: Mapping[str, Any] = field(default_factory=dict)
    environment: Environment | None = None
    force_env_push: bool = False
    queue_timeout_s: float | None = None


@contextmanager
def acquired(
    request: ClusterRequest,
    log: Callable[[str], None],
    leave_running: Callable[[BaseException], bool],
) -> Iterator[ClusterAccess]:
    """A running cluster, given back afterwards.

    ``leave_running`` says of an exception that it ends this process but not the work. Raises
    ConfigError, EnvironmentFailed, LocalClusterError, ClusterError, SlurmError or TransportError.
    """
    launcher = request.launcher
    if isinstance(launcher, RayLauncher) and launcher.ray_address is not None:
        from dagster_glue.clusters.existing import ExistingCluster

        yield ExistingCluster(launcher.ray_address)
    elif request.mode is ExecutionMode.LOCAL:
        from dagster_glue.clusters.local import LocalCluster

        launchers = (request.default_launcher, launcher)
        yield LocalCluster.start(**local_options(launchers, os.cpu_count() or 1))
    elif request.mode is ExecutionMode.SLURM:
        with _per_asset(request, log, leave_running) as cluster:
            yield cluster
    else:
        raise ConfigError(
            f"mode {request.mode.value} is not available yet; use slurm, a cluster for each asset "
            "run, or local"
        )


def local_options(launchers: Sequence[Launcher | None], cpus_here: int) -> dict[str, Any]:
    """How to start the local runtime: large enough for all of the launchers, so that runs with one
    or another share it (pure).

    A task that asks for all CPUs or GPUs of a launcher's node would wait for ever on less.
    """
    rays = [launcher for launcher in launchers if isinstance(launcher, RayLauncher)]
    options: dict[str, Any] = {}
    cpus = max((ray.num_cpus_per_node or 0 for ray in rays), default=0)
    if cpus > cpus_here:
        options["num_cpus"] = cpus
        # Ray would start a process for each of them when the driver comes.
        options["env"] = {"RAY_prestart_worker_first_driver": "0"}
    gpus = max((ray.num_gpus_per_node or 0 for ray in rays), default=0)
    if gpus:
        options["num_gpus"] = gpus
    stores = [ray.object_store_memory_gb for ray in rays if ray.object_store_memory_gb is not None]
    if stores:
        options["object_store_memory_mb"] = round(max(stores) * 1024)
    arguments = dict.fromkeys(argument for ray in rays for argument in ray.ray_args)
    return {**options, "ray_args": tuple(arguments)}


def remove_cluster(slurm: SlurmResource, cluster_id: str) -> None:
    """See ``ComputeResource.cleanup_cluster``."""
    from slurm_provider.api import RayCluster

    plan = ClusterPlan(
        name=cluster_id,
        mode=ExecutionMode.SLURM,
        launcher=RayLauncher(),
        queue=slurm.queue,
        cluster_dir=_cluster_dir(slurm, cluster_id),
        provider_options=slurm.provider_options,
    )
    RayCluster(cluster_config(plan), slurm.transport()).down()


@contextmanager
def _per_asset(
    request: ClusterRequest,
    log: Callable[[str], None],
    leave_running: Callable[[BaseException], bool],
) -> Iterator[ClusterAccess]:
    from dagster_glue.clusters.per_asset import cluster_for_asset, cluster_name

    slurm, environment = request.slurm, request.environment
    assert slurm is not None and environment is not None
    name = cluster_name(request.run_id, request.step_key)
    base = slurm.base_path()
    plan = ClusterPlan(
        name=name,
        mode=request.mode,
        launcher=request.launcher,
        queue=slurm.queue,
        cluster_dir=_cluster_dir(slurm, name),
        slurm_opts=request.slurm_opts,
        ssh=None if slurm.ssh is None else slurm.ssh.cluster_section(),
        provider_options=slurm.provider_options,
    )
    config = cluster_config(plan)  # refuses before anything is packed and sent
    transport = slurm.transport()
    if base.startswith("~/"):
        base = transport.home() + base[1:]
    config["provider"]["environment"] = environment.ensure(
        transport, base, log, force=request.force_env_push
    )
    with cluster_for_asset(
        config,
        transport,
        f"{base}/runs",
        log,
        queue_timeout_s=request.queue_timeout_s,
        leave_running=leave_running,
    ) as cluster:
        yield cluster


def _cluster_dir(slurm: SlurmResource, name: str) -> str:
    return f"{slurm.base_path()}/clusters/{name}"
