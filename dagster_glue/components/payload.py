"""A payload and its assets, described in YAML."""

# Annotations are not postponed here: Dagster refuses a `context` that is annotated by a string.

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from pydantic import Field, field_validator

from dagster_glue.components.scaffolder import RayPayloadScaffolder
from dagster_glue.components.sections import resolve_compute, resolve_launcher, section_of
from dagster_glue.compute import ComputeResource
from dagster_glue.jobs.payload import plan_payload
from dagster_glue.launchers import Launcher, RayLauncher
from slurm_provider.errors import ConfigError

# As Any, because Dagster would otherwise look into the resources for types that it can resolve.
_ResolvedLauncher = Annotated[
    Any, dg.Resolver(resolve_launcher, model_field_type=section_of(Launcher) | None)
]
_ResolvedCompute = Annotated[
    Any, dg.Resolver(resolve_compute, model_field_type=section_of(ComputeResource) | None)
]


@dg.scaffold_with(RayPayloadScaffolder)
class RayPayloadComponent(dg.Component, dg.Model, dg.Resolvable):
    """A payload that runs as a Ray job, here or on Slurm, and the assets and checks it reports.

    Relative paths start at the folder of the component.
    """

    payload: str = Field(
        description="A script, or `python -m package.module` with the launcher's working_dir; "
        "either with arguments."
    )
    assets: list[dg.ResolvedAssetSpec] = Field(min_length=1, description="What the payload makes.")
    checks: list[dg.ResolvedAssetCheckSpec] = Field(
        default_factory=list, description="What the payload checks."
    )
    resource_key: str = Field(
        default="compute", description="The project's ComputeResource to run on."
    )
    compute: _ResolvedCompute = Field(
        default=None, description="A ComputeResource of this payload's own, instead."
    )
    launcher: _ResolvedLauncher = Field(
        default=None, description="In place of the compute resource's default_launcher."
    )
    extra_files: list[str] = Field(
        default_factory=list, description="Files and folders to put beside the payload."
    )
    extra_env: dict[str, str] = Field(
        default_factory=dict, description="More environment variables for the payload."
    )
    extras: dict[str, Any] = Field(
        default_factory=dict, description="For the payload, by `PipesContext.get().extras`."
    )
    extra_slurm_opts: dict[str, Any] = Field(
        default_factory=dict, description="sbatch options, over the launcher's and the queue's."
    )
    op_name: str | None = Field(
        default=None, description="Name of the step; default: made of the first asset's key."
    )
    op_tags: dict[str, Any] = Field(default_factory=dict, description="Tags of the step.")
    pool: str | None = Field(default=None, description="Dagster's concurrency pool of the step.")
    max_retries: int = Field(
        default=0,
        ge=0,
        description="How often a step that failed is tried again; a job that still runs is found "
        "again.",
    )

    @field_validator("launcher")
    @classmethod
    def _is_launcher(cls, value: Any) -> Any:
        return _checked(value, Launcher)

    @field_validator("compute")
    @classmethod
    def _is_compute(cls, value: Any) -> Any:
        return _checked(value, ComputeResource)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Raises PayloadError for a payload that is not there."""
        path = Path(context.path)
        folder = path if path.is_dir() else path.parent  # a component.py has its own path
        launcher = _in_folder(self.launcher, folder)
        payload = payload_in(folder, self.payload)
        files = [os.path.join(folder, name) for name in self.extra_files]
        working_dir = launcher.working_dir if isinstance(launcher, RayLauncher) else None
        plan_payload(payload, extra_files=files, working_dir=working_dir)
        own = self.compute

        @dg.multi_asset(
            name=self.op_name or "__".join(self.assets[0].key.path),
            specs=self.assets,
            check_specs=self.checks,
            required_resource_keys=set() if own is not None else {self.resource_key},
            op_tags=self.op_tags,
            pool=self.pool,
            retry_policy=dg.RetryPolicy(self.max_retries) if self.max_retries else None,
        )
        def run_payload(context: dg.AssetExecutionContext) -> Iterator[Any]:
            compute = own if own is not None else getattr(context.resources, self.resource_key)
            if not isinstance(compute, ComputeResource):
                raise ConfigError(
                    f"the resource {self.resource_key!r} is a {type(compute).__name__}; "
                    "RayPayloadComponent runs on a ComputeResource"
                )
            done = compute.run(
                context,
                payload,
                launcher=launcher,
                extra_env=self.extra_env,
                extras=self.extras,
                extra_files=files,
                extra_slurm_opts=self.extra_slurm_opts,
            )
            yield from done.get_results()

        return dg.Definitions(assets=[run_payload])


def payload_in(folder: Path, payload: str) -> str:
    """``payload`` with its script's path made absolute, if the script is in ``folder``."""
    words = shlex.split(payload)
    for position, word in enumerate(words):
        if word in ("-m", "-c"):
            break
        if (folder / word).is_file():
            words[position] = str(folder / word)
            break
    return shlex.join(words)


def _checked(value: Any, kind: type) -> Any:
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{value!r} is not a {kind.__name__}")
    return value


def _in_folder(launcher: Launcher | None, folder: Path) -> Launcher | None:
    if not isinstance(launcher, RayLauncher) or launcher.working_dir is None:
        return launcher
    if "://" in launcher.working_dir:
        return launcher
    return launcher.model_copy(update={"working_dir": str(folder / launcher.working_dir)})
