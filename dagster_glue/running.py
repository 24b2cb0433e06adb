"""One payload on one cluster: environment, cluster, job, metadata."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_glue.acquire import ClusterRequest, acquired
from dagster_glue.cluster_config import run_needs
from dagster_glue.clusters.base import ClusterAccess
from dagster_glue.clusters.hetjob import components_in
from dagster_glue.dashboard import dashboard_command, dashboard_metadata
from dagster_glue.ending import Ending
from dagster_glue.jobs.lineage import retried_runs
from dagster_glue.jobs.options import RunOptions
from dagster_glue.jobs.payload import check_extras
from dagster_glue.jobs.request import EntrypointResources
from dagster_glue.jobs.run import run_job
from dagster_glue.jobs.step import is_direct, noting_keyboard, run_id
from dagster_glue.launchers import Launcher, RayLauncher, asked_ray_version
from dagster_glue.metadata import (
    footprint_metadata,
    footprint_of,
    ray_logs_metadata,
    run_metadata,
)
from dagster_glue.metrics import Window
from dagster_glue.modes import ExecutionMode
from dagster_glue.payloads import payload_for
from dagster_glue.requirements import requirement_options
from dagster_glue.slurm import SlurmRunConfig
from slurm_provider.errors import ConfigError
from slurm_provider.slurm import ReasonKind

if TYPE_CHECKING:
    from dagster_glue.compute import ComputeResource, Context
    from dagster_glue.environment.base import Environment


@dataclass(frozen=True)
class RunRequest:
    """The arguments of ``ComputeResource.run``."""

    payload_path: str
    launcher: Launcher
    config: SlurmRunConfig
    extra_env: Mapping[str, str]
    extras: Mapping[str, Any]
    extra_slurm_opts: Mapping[str, Any]
    resource_requirements: Mapping[str, Any]
    extra_files: Sequence[str]


def run_payload(
    compute: ComputeResource, context: Context, request: RunRequest
) -> dg.PipesClientCompletedInvocation:
    """See ``ComputeResource.run``."""
    mode, launcher = compute.execution_mode, request.launcher
    check_extras(request.extras)
    payload = payload_for(
        request.payload_path,
        launcher,
        request.config,
        extra_env=request.extra_env,
        extra_files=request.extra_files,
        pre_deployed_env_path=compute.pre_deployed_env_path,
    )
    ray_version, require_ray_version = asked_ray_version(launcher, compute.default_launcher)
    options = RunOptions(
        strict=compute.strict,
        log_events=compute.log_events,
        all_worker_logs=compute.all_worker_logs,
        entrypoint=_entrypoint(launcher),
        ray_version=ray_version,
        require_ray_version=require_ray_version,
    )
    wanted = _cluster_request(compute, context, request, mode)
    begin, ending = time.time(), Ending(context)

    def say(words: str) -> None:
        stays = ReasonKind.NEVER.label in words
        (context.log.warning if stays else context.log.info)(words)

    with noting_keyboard(), acquired(wanted, say, ending.leaves_running) as cluster:
        dashboard = _dashboard(compute, cluster)
        if dashboard is not None:
            context.log.info(f"Ray's dashboard, while the cluster runs: {dashboard}")
        finished = run_job(
            cluster, context=context, payload=payload, extras=request.extras, options=options
        )
        ending.outcome = finished.outcome
        window = Window(begin, time.time())
        is_kept = ending.leaves_running(None)
        footprint = footprint_of(cluster, context.log.warning, begin, is_kept=is_kept)
    metadata = run_metadata(finished.outcome, footprint.cluster_id, footprint.job_ids)
    metadata |= dashboard_metadata(dashboard, goes_on=footprint.goes_on)
    metadata |= footprint_metadata(
        footprint,
        window,
        asked_for_gpus=_asks_for_gpus(launcher),
        ran_elsewhere=finished.outcome.ran_elsewhere,
    )
    failure = finished.failure()
    if failure is not None:
        path = finished.outcome.ray_logs_path
        metadata |= ray_logs_metadata(cluster, path, goes_on=footprint.goes_on)
        raise dg.Failure(failure.description, metadata={**metadata, **failure.metadata})
    return dg.PipesClientCompletedInvocation(finished.session, metadata=metadata)


def _cluster_request(
    compute: ComputeResource, context: Context, request: RunRequest, mode: ExecutionMode
) -> ClusterRequest:
    required = requirement_options(request.resource_requirements, request.launcher)
    return ClusterRequest(
        mode=mode,
        launcher=request.launcher,
        run_id=run_id(context),
        step_key="direct" if is_direct(context) else context.get_step_execution_context().step.key,
        default_launcher=compute.default_launcher,
        slurm=compute.site,
        needs=run_needs(required, request.extra_slurm_opts),
        environment=_environment(compute, request, mode),
        force_env_push=request.config.force_env_push,
        queue_timeout_s=compute.queue_timeout,
        session=compute.session,
        enable_cluster_reuse=compute.enable_cluster_reuse,
        retried_run_ids=() if is_direct(context) else retried_runs(context),
    )


def _environment(
    compute: ComputeResource, request: RunRequest, mode: ExecutionMode
) -> Environment | None:
    """None where no cluster is made for it: local runs are in this process's environment."""
    name, launcher = request.config.environment_name, request.launcher
    if isinstance(launcher, RayLauncher) and launcher.ray_address is not None:
        if name is not None:
            raise ConfigError(
                f"environment_name {name!r}: nothing is packed for the cluster of ray_address"
            )
        return None
    if not mode.uses_slurm:
        return None
    return compute.packing.environment(
        name=name,
        pre_deployed_env_path=compute.pre_deployed_env_path,
        auto_detect_platform=compute.auto_detect_platform,
        pack_platform=compute.pack_platform,
    )


def _dashboard(compute: ComputeResource, cluster: ClusterAccess) -> str | None:
    """The command for it; None where no cluster of ours is on Slurm."""
    if cluster.directory is None or compute.site is None:
        return None
    ssh = compute.site.ssh
    return dashboard_command(cluster.directory, None if ssh is None else ssh.settings())


def _entrypoint(launcher: Launcher) -> EntrypointResources:
    if not isinstance(launcher, RayLauncher):
        return EntrypointResources()
    return EntrypointResources(
        num_cpus=launcher.entrypoint_num_cpus,
        num_gpus=launcher.entrypoint_num_gpus,
        memory=launcher.entrypoint_memory,
        resources=launcher.entrypoint_resources,
    )


def _asks_for_gpus(launcher: Launcher) -> bool:
    if not isinstance(launcher, RayLauncher):
        return False
    return any(component.num_gpus_per_node for component in components_in(launcher))
