"""The facade: what an asset runs a payload with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, field_validator

from dagster_glue.launchers import BashLauncher, Launcher, RayLauncher
from dagster_glue.modes import ExecutionMode, parse_mode
from dagster_glue.packing import PackConfig
from dagster_glue.slurm import SlurmResource, SlurmRunConfig, SlurmSessionResource
from dagster_glue.strict import StrictResource, has_variables, resolved
from slurm_provider.errors import ConfigError

if TYPE_CHECKING:
    from dagster_glue.clusters.inventory import ClusterInfo

Context = dg.AssetExecutionContext | dg.OpExecutionContext


class ComputeResource(StrictResource, dg.PipesClient):
    """Runs payloads as Ray jobs, here or on Slurm, and reports what they say to Dagster."""

    mode: str = Field(
        description="An ExecutionMode or its value: local, slurm, slurm-session, slurm-hetjob."
    )
    slurm: SlurmResource | None = Field(
        default=None, description="The site; every mode but local needs it."
    )
    session: SlurmSessionResource | None = Field(
        default=None, description="In mode slurm-session: its name and how long it stays idle."
    )
    default_launcher: Launcher | None = Field(
        default=None, description="For runs that name none; default: BashLauncher()."
    )
    enable_cluster_reuse: bool = Field(
        default=False,
        description="In sessions: take any cluster of the session that is large enough; one that "
        "has to be made gets the shape of `default_launcher`, if that is.",
    )
    auto_detect_platform: bool = Field(
        default=True,
        description="Pack the environment for the edge node's platform, not for this one's.",
    )
    pack_platform: str | None = Field(
        default=None, description='The platform to pack for ("linux-64"), when it is not detected.'
    )
    pre_deployed_env_path: str | None = Field(
        default=None,
        description="An environment on the cluster: a prefix, or a folder with activate.sh.",
    )
    packing: PackConfig = Field(
        default_factory=lambda: PackConfig(),
        description="What to pack for the cluster, in place of pre_deployed_env_path.",
    )
    queue_timeout: float | None = Field(
        default=None,
        description="Seconds a cluster's head may wait in Slurm's queue (of slurm-hetjob the whole "
        "job), then the step fails; default: no limit. Workers may wait for longer: events tell.",
    )
    strict: bool = Field(
        default=True,
        description="A payload that succeeds without having used Dagster Pipes is a failure.",
    )
    log_events: bool = Field(
        default=False,
        description="What the driver prints also as events, not only as compute logs.",
    )
    all_worker_logs: bool = Field(
        default=False, description="Do not let Ray fold equal lines of several workers into one."
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if not has_variables(self.mode):
            self._check()

    @field_validator("mode", mode="before")
    @classmethod
    def _known_mode(cls, value: Any) -> Any:
        return value if has_variables(value) else parse_mode(value).value

    @property
    def execution_mode(self) -> ExecutionMode:
        return parse_mode(self.mode)

    def run(  # type: ignore[override]  # names its arguments instead of taking any
        self,
        context: Context,
        payload_path: str,
        launcher: Launcher | None = None,
        extra_env: Mapping[str, str] | None = None,
        extras: Mapping[str, Any] | None = None,
        extra_slurm_opts: Mapping[str, Any] | None = None,
        resource_requirements: Mapping[str, Any] | None = None,
        extra_files: Sequence[str] | None = None,
        config: SlurmRunConfig | None = None,
        force_env_push: bool | None = None,
        skip_payload_upload: bool | None = None,
        remote_payload_path: str | None = None,
        environment_name: str | None = None,
    ) -> dg.PipesClientCompletedInvocation:
        """Run a payload as a Ray job to its end; ``yield from`` its ``get_results()``.

        Args:
            context: the asset's or op's.
            payload_path: a script here, which is uploaded, or ``python -m package.module``; either
                with arguments, quoted as in a shell.
            launcher: in place of ``default_launcher``, as a whole.
            extra_env: more environment variables for the payload and its tasks.
            extras: for the payload, by ``PipesContext.get().extras``.
            extra_slurm_opts: sbatch options of this run, over the launcher's and the queue's; by
                sbatch's names or those of SlurmQueueConfig. ``num_nodes``: the most workers.
            resource_requirements: ``cpus``, ``gpus``, ``memory_gb`` of a node, ``nodes``,
                ``framework``; extra_slurm_opts come before them.
            extra_files: files and folders to put beside the payload.
            config: from the launchpad. The arguments that follow come before its fields.

        Raises dagster.Failure with the kind of failure, for a payload that failed and for whatever
        kept it from running.
        """
        from dagster_glue.running import RunRequest, run_payload
        from dagster_glue.unstarted import telling_the_kind

        given = {
            "force_env_push": force_env_push,
            "skip_payload_upload": skip_payload_upload,
            "remote_payload_path": remote_payload_path,
            "environment_name": environment_name,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        with telling_the_kind():
            request = RunRequest(
                payload_path=payload_path,
                launcher=_launcher(launcher or self.default_launcher),
                config=SlurmRunConfig(**{**dict(config or SlurmRunConfig()), **changes}),
                extra_env=extra_env or {},
                extras=extras or {},
                extra_slurm_opts=extra_slurm_opts or {},
                resource_requirements=resource_requirements or {},
                extra_files=extra_files or (),
            )
            return run_payload(self._in_use(), context, request)

    def run_hetjob(
        self,
        context: Context,
        payload_path: str,
        launchers: Mapping[str, RayLauncher] | Sequence[RayLauncher],
        **arguments: Any,
    ) -> dg.PipesClientCompletedInvocation:
        """Run a payload on one Ray cluster of several components, which start together.

        Args:
            context, payload_path, arguments: as for :meth:`run`.
            launchers: one for each component, by ``component_id``: its workers' number
                (``min_workers``, else the queue's ``num_nodes``, else one; with ``max_workers``
                Ray may add more later), size and ``slurm_opts``. What concerns the whole cluster
                is said by the first. A task reaches a component by the resource of that name, or
                by the label ``component-id``.

        In mode slurm-hetjob the components are one heterogeneous job of Slurm. In mode local one
        runtime stands for them all, and has their resources. Raises as :meth:`run`.
        """
        from dagster_glue.clusters.hetjob import together
        from dagster_glue.unstarted import telling_the_kind

        with telling_the_kind():
            mode = self._in_use().execution_mode
            if mode not in (ExecutionMode.SLURM_HETJOB, ExecutionMode.LOCAL):
                raise ConfigError(
                    "run_hetjob needs mode slurm-hetjob (or local, to try a payload), not "
                    f"{mode.value}"
                )
            launcher = together(launchers)
        return self.run(context, payload_path, launcher=launcher, **arguments)

    def clusters(self) -> list[ClusterInfo]:
        """The clusters that are there: of this site's base path or, in mode local, this user's
        runtimes on this machine.

        Raises ConfigError, and the provider's errors when Slurm or the edge node gives no answer.
        """
        from dagster_glue.clusters.inventory import local_runtimes, slurm_clusters
        from dagster_glue.clusters.place import place_of

        compute = self._in_use()
        if not compute.execution_mode.uses_slurm or compute.site is None:
            return local_runtimes()
        return slurm_clusters(place_of(compute.site))

    def cleanup_cluster(self, cluster_id: str) -> None:
        """End a cluster and all its jobs now, whoever uses it.

        ``cluster_id`` is in the metadata of every result. Raises ConfigError naming those there are
        for one that is not there (any more), LocalClusterError, and the provider's errors when
        Slurm gives no answer or the jobs do not end.
        """
        from dagster_glue.clusters.inventory import end_local_runtime, end_slurm_cluster
        from dagster_glue.clusters.place import place_of

        compute = self._in_use()
        if not compute.execution_mode.uses_slurm or compute.site is None:
            end_local_runtime(cluster_id)
        else:
            end_slurm_cluster(place_of(compute.site), cluster_id)

    @property
    def site(self) -> SlurmResource | None:
        """The Slurm site in use."""
        if self.session is not None and self.session.slurm is not None:
            return self.session.slurm
        return self.slurm

    def _in_use(self) -> ComputeResource:
        """With the values of its variables. Raises ConfigError."""
        compute = resolved(self)
        compute._check()
        return compute

    def _check(self) -> None:
        if self.execution_mode.uses_slurm and self.site is None:
            raise ConfigError(
                f"ComputeResource: mode {self.mode} needs slurm=SlurmResource(...); only local "
                "does without"
            )


def _launcher(given: object) -> Launcher:
    """As it is used. Raises ConfigError."""
    if given is None:
        return BashLauncher()
    if not isinstance(given, (RayLauncher, BashLauncher)):
        what = f"the class {given.__name__}" if isinstance(given, type) else repr(given)
        raise ConfigError(f"launcher is {what}: give RayLauncher(...) or BashLauncher(...)")
    return resolved(given)
