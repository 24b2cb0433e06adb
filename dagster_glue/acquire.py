"""The cluster of one run, by mode."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from dagster_glue.cluster_config import ClusterPlan, RunNeeds, cluster_config
from dagster_glue.clusters.base import ClusterAccess
from dagster_glue.clusters.hetjob import component_size, components_in
from dagster_glue.launchers import Launcher, RayLauncher
from dagster_glue.modes import ExecutionMode
from dagster_glue.slurm import SlurmQueueConfig, SlurmResource, SlurmSessionResource
from dagster_glue.strict import resolved

if TYPE_CHECKING:
    from dagster_glue.clusters.place import Place
    from dagster_glue.clusters.waiting import Patience
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
    needs: RunNeeds = field(default_factory=RunNeeds)
    environment: Environment | None = None
    force_env_push: bool = False
    queue_timeout_s: float | None = None
    session: SlurmSessionResource | None = None
    enable_cluster_reuse: bool = False
    retried_run_ids: Sequence[str] = ()
    """Of runs whose unfinished work this one goes on with, the latest first."""


@contextmanager
def acquired(
    request: ClusterRequest,
    log: Callable[[str], None],
    leave_running: Callable[[BaseException | None], bool],
) -> Iterator[ClusterAccess]:
    """A running cluster, given back afterwards.

    ``leave_running`` says of an exception that it ends this process but not the work and, of the
    normal end (None), that the step is tried again at once. Raises ConfigError, EnvironmentFailed,
    LocalClusterError, ClusterError, SlurmError or TransportError.
    """
    launcher = request.launcher
    if isinstance(launcher, RayLauncher) and launcher.ray_address is not None:
        from dagster_glue.clusters.existing import answering

        yield answering(launcher.ray_address, log)
    elif request.mode is ExecutionMode.LOCAL:
        from dagster_glue.clusters.local import LocalCluster

        launchers = (request.default_launcher, launcher)
        yield LocalCluster.start(**local_options(launchers, os.cpu_count() or 1))
    elif request.mode is ExecutionMode.SLURM_SESSION:
        with _session(request, log, leave_running) as cluster:
            yield cluster
    else:
        with _per_asset(request, log, leave_running) as cluster:
            yield cluster


def local_options(launchers: Sequence[Launcher | None], cpus_here: int) -> dict[str, Any]:
    """How to start the local runtime: large enough for all of the launchers, so that runs with one
    or another share it (pure).

    A task that asks for all CPUs or GPUs of a launcher's node would wait for ever on less.
    """
    given = [launcher for launcher in launchers if isinstance(launcher, RayLauncher)]
    rays = [component for launcher in given for component in components_in(launcher)]
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
    return {**options, "ray_args": (*_component_arguments(rays), *arguments)}


def _component_arguments(launchers: Sequence[RayLauncher]) -> list[str]:
    """What makes one node stand for the nodes of all components; a label has one value only."""
    ids = {ray.component_id: component_size(ray, None)[0] for ray in launchers if ray.component_id}
    resources = [f"--resources={json.dumps(ids)}"] if ids else []
    return [*resources, *(f"--labels=component-id={name}" for name in ids if len(ids) == 1)]


@contextmanager
def _per_asset(
    request: ClusterRequest,
    log: Callable[[str], None],
    leave_running: Callable[[BaseException | None], bool],
) -> Iterator[ClusterAccess]:
    from dagster_glue.clusters.per_asset import cluster_for_asset, cluster_is_there, cluster_name
    from dagster_glue.clusters.place import place_of
    from dagster_glue.clusters.waiting import reached

    slurm = request.slurm
    assert slurm is not None

    def config_of(name: str) -> dict[str, Any]:
        return cluster_config(
            ClusterPlan(
                name=name,
                mode=request.mode,
                launcher=request.launcher,
                queue=slurm.queue,
                cluster_dir=_cluster_dir(slurm, name),
                needs=request.needs,
                ssh=None if slurm.ssh is None else slurm.ssh.cluster_section(),
                provider_options=slurm.provider_options,
            )
        )

    name = cluster_name(request.run_id, request.step_key)
    config = config_of(name)  # refuses before anything is packed and sent
    patience = reached(slurm.transport(), log)
    place = place_of(slurm)
    patience.insist(place.make)
    for run_id in request.retried_run_ids:
        earlier = cluster_name(run_id, request.step_key)
        folder = place.directory(earlier)
        if patience.insist(partial(cluster_is_there, place.transport, folder)):
            log(f"Cluster {earlier} of the run that this one retries is still there")
            config = config_of(earlier)
            break
    config["provider"]["environment"] = _packed(request, place, patience, log)
    with cluster_for_asset(
        config,
        place.transport,
        place.runs_dir,
        log,
        run_id=request.run_id,
        step_key=request.step_key,
        queue_timeout_s=request.queue_timeout_s,
        leave_running=leave_running,
    ) as cluster:
        yield cluster


@contextmanager
def _session(
    request: ClusterRequest,
    log: Callable[[str], None],
    leave_running: Callable[[BaseException], bool],
) -> Iterator[ClusterAccess]:
    from dagster_glue.clusters.choice import Wish
    from dagster_glue.clusters.lease import lease_key
    from dagster_glue.clusters.place import place_of
    from dagster_glue.clusters.session import session_cluster
    from dagster_glue.clusters.shape import shape_of
    from dagster_glue.clusters.waiting import reached

    slurm = request.slurm
    assert slurm is not None
    session = resolved(request.session or SlurmSessionResource())
    queue = session.applied(slurm.queue)

    def config(launcher: Launcher, needs: RunNeeds) -> dict[str, Any]:
        return _session_config(slurm, queue, session, launcher, needs)

    wanted = config(request.launcher, request.needs)  # refuses before anything is sent
    patience = reached(slurm.transport(), log)
    place = place_of(slurm)
    patience.insist(place.make)
    packed = _packed(request, place, patience, log)
    wanted["provider"]["environment"] = packed
    larger = None
    default = request.default_launcher
    if default is not None and getattr(default, "ray_address", None) is None:
        larger = config(default, RunNeeds())
        larger["provider"]["environment"] = packed
    wish = Wish(
        session=session.name,
        shape=shape_of(wanted),
        reuse=request.enable_cluster_reuse,
        larger=None if larger is None else shape_of(larger),
        lease_key=lease_key(request.run_id, request.step_key),
    )
    with session_cluster(
        place,
        wish,
        log,
        run_id=request.run_id,
        step_key=request.step_key,
        queue_timeout_s=request.queue_timeout_s,
        leave_running=leave_running,
    ) as cluster:
        yield cluster


def _packed(
    request: ClusterRequest, place: Place, patience: Patience, log: Callable[[str], None]
) -> dict[str, str]:
    """``provider.environment``, sent to the site where that is needed."""
    environment = request.environment
    assert environment is not None
    return patience.insist(
        lambda: environment.ensure(
            place.transport, place.base_dir, log, force=request.force_env_push
        )
    )


def _session_config(
    slurm: SlurmResource,
    queue: SlurmQueueConfig,
    session: SlurmSessionResource,
    launcher: Launcher,
    needs: RunNeeds,
) -> dict[str, Any]:
    return cluster_config(
        ClusterPlan(
            name=session.name,
            mode=ExecutionMode.SLURM_SESSION,
            launcher=launcher,
            queue=queue,
            cluster_dir="",  # the session chooses
            needs=needs,
            provider_options=slurm.provider_options,
            unleased_timeout_s=session.cluster_idle_timeout,
        )
    )


def _cluster_dir(slurm: SlurmResource, name: str) -> str:
    return f"{slurm.base_path()}/clusters/{name}"
