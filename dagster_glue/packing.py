"""Where the environment to pack for the cluster comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from dagster_glue.strict import StrictConfig

if TYPE_CHECKING:
    from dagster_glue.environment.base import Environment


class PackConfig(StrictConfig):
    """At most one of ``lock_file``, ``conda_prefix`` and ``pixi_project``; default: the pixi
    project that this process was started from, else what a login shell on the cluster has."""

    lock_file: str | None = Field(
        default=None,
        description="A `uv.lock`, a `pylock.toml`, or requirements with exact versions, as `uv pip "
        "compile` writes them. Packed by uv.",
    )
    python: str = Field(
        default="python3",
        description="The cluster's Python for a lock_file, at the same path on every host.",
    )
    conda_prefix: str | None = Field(
        default=None,
        description="A conda environment on this machine, packed by conda-pack (to be installed).",
    )
    pixi_project: str | None = Field(default=None, description="Folder of a pixi project.")
    pixi_environment: str | None = Field(
        default=None, description='Which of the project\'s environments; default: "default".'
    )
    pack_task: str | None = Field(
        default=None,
        description="The project's task that packs it, leaving `environment.sh`; default: "
        "pixi-pack itself.",
    )
    inject: list[str] = Field(
        default_factory=list,
        description="Built packages to add: patterns in the pixi project, of each the newest file. "
        "A pack_task adds its packages itself: name them here too, so that a new one is packed.",
    )

    def environment(
        self,
        *,
        name: str | None = None,
        pre_deployed_env_path: str | None = None,
        auto_detect_platform: bool = True,
        pack_platform: str | None = None,
    ) -> Environment:
        """``name`` takes the place of ``pixi_environment``. Raises ConfigError."""
        from dagster_glue.environment import choose_environment

        return choose_environment(
            pre_deployed_env_path=pre_deployed_env_path,
            lock_file=self.lock_file,
            python=self.python,
            conda_prefix=self.conda_prefix,
            pixi_project=self.pixi_project,
            pixi_environment=name or self.pixi_environment,
            pack_task=self.pack_task,
            inject=self.inject,
            auto_detect_platform=auto_detect_platform,
            pack_platform=pack_platform,
        )
