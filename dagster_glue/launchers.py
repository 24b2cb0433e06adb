"""The shape of what a payload runs in."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dagster_glue.slurm import sbatch_options
from dagster_glue.strict import StrictResource, at_least, has_variables
from slurm_provider.errors import ConfigError


class Launcher(StrictResource):
    """Base of the launchers; not used itself."""


class BashLauncher(Launcher):
    """The payload alone, in one Slurm allocation on one host, sized by the queue's settings.

    It runs as a job of a Ray cluster that is a head only, so logs, messages, cancel and retry are
    those of Ray payloads; it need not know of Ray.
    """


class RayLauncher(Launcher):
    """A Ray cluster: a small head for the payload's driver, and workers as Ray asks for them."""

    num_cpus_per_node: Annotated[int | None, at_least(1)] = Field(
        default=None, description="CPUs of each worker node; default: the queue's."
    )
    num_gpus_per_node: Annotated[int | None, at_least(0)] = Field(
        default=None, description="GPUs of each worker node; default: the queue's."
    )
    min_workers: Annotated[int, at_least(0)] = Field(
        default=0, description="Workers to keep, also without work."
    )
    max_workers: Annotated[int | None, at_least(0)] = Field(
        default=None,
        description="At most this many; default: the queue's num_nodes, else what Ray has work for "
        "and Slurm grants.",
    )
    ray_version: str | None = Field(
        default=None,
        description="The Ray this was written for: another one in the environment is a warning. "
        "Default: the default_launcher's.",
    )
    require_ray_version: bool = Field(default=False, description="Another Ray is an error.")
    working_dir: str | None = Field(
        default=None, description="Folder here, uploaded as the payload's working directory."
    )
    runtime_env: dict[str, Any] = Field(
        default_factory=dict, description="Ray's runtime_env for the payload."
    )
    ray_args: list[str] = Field(
        default_factory=list, description='More `ray start` options of the head ("--name=value").'
    )
    head_node_address: str | None = Field(
        default=None,
        description="Address or name by which the workers reach the head's host; default: its "
        "address on the route.",
    )
    component_id: str | None = Field(
        default=None,
        description="Names the workers: tasks reach them by the resource of this name or by the "
        "label `component-id`.",
    )
    object_store_memory_gb: Annotated[float | None, at_least(0)] = Field(
        default=None, description="Object store of each node; default: 30 % of its memory."
    )
    idle_timeout: Annotated[float | None, at_least(0)] = Field(
        default=None, description="Seconds after which an idle worker leaves; default: 60, in "
        "sessions 300.",
    )  # fmt: skip
    ray_address: str | None = Field(
        default=None,
        description="Use this cluster: the http address of its dashboard. Nothing is started.",
    )
    entrypoint_num_cpus: Annotated[float | None, at_least(0)] = Field(
        default=None, description="CPUs for the driver; given any of these, it runs on a worker."
    )
    entrypoint_num_gpus: Annotated[float | None, at_least(0)] = Field(
        default=None, description="GPUs for the driver."
    )
    entrypoint_memory: Annotated[int | None, at_least(0)] = Field(
        default=None, description="Bytes for the driver."
    )
    entrypoint_resources: dict[str, float] = Field(
        default_factory=dict, description="Custom resources for the driver."
    )
    head_cpus: Annotated[int, at_least(1)] = Field(
        default=1, description="CPUs of the head, which takes no tasks."
    )
    head_mem: str = Field(
        default="4G", description="Memory of the head, for Ray's services and the driver."
    )
    slurm_opts: dict[str, Any] = Field(
        default_factory=dict,
        description='sbatch options of the workers, before those of the queue ({"partition": '
        '"gpu"}); false turns one off.',
    )
    head_slurm_opts: dict[str, Any] = Field(
        default_factory=dict,
        description='sbatch options in which the head differs ({"partition": "cpu"}); false '
        "turns one off.",
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if not has_variables(self):
            _check(self)


def asked_ray_version(launcher: Launcher, default: Launcher | None) -> tuple[str | None, bool]:
    """Which Ray a run was written for, and whether another one is an error (pure).

    The default launcher speaks for one that names no version: both run in one environment.
    """
    if not isinstance(launcher, RayLauncher):
        return None, False
    is_silent = launcher.ray_version is None and launcher.ray_address is None
    if is_silent and isinstance(default, RayLauncher) and default.ray_address is None:
        is_required = launcher.require_ray_version or default.require_ray_version
        return default.ray_version, is_required
    return launcher.ray_version, launcher.require_ray_version


def _check(launcher: RayLauncher) -> None:
    if launcher.max_workers is not None and launcher.min_workers > launcher.max_workers:
        raise ConfigError(
            f"RayLauncher: min_workers {launcher.min_workers} is more than max_workers "
            f"{launcher.max_workers}"
        )
    for argument in launcher.ray_args:
        if not argument.startswith("--"):
            raise ConfigError(
                f"RayLauncher.ray_args: {argument!r} is not an option; write --name=value as one "
                "string"
            )
    if launcher.working_dir is not None and "working_dir" in launcher.runtime_env:
        raise ConfigError("RayLauncher: working_dir is also in runtime_env; give it once")
    sbatch_options({"mem": launcher.head_mem}, "RayLauncher.head_mem")
    sbatch_options(launcher.slurm_opts, "RayLauncher.slurm_opts")
    sbatch_options(launcher.head_slurm_opts, "RayLauncher.head_slurm_opts")
