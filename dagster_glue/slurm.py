"""What to ask Slurm for, and where."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from dagster_glue.connection import SSHConnectionResource
from dagster_glue.strict import StrictConfig, StrictResource, at_least, has_variables, resolved
from slurm_provider.errors import ConfigError
from slurm_provider.slurm import OptionError, validate
from slurm_provider.transport import LocalTransport, Transport

DEFAULT_BASE = "~/dagster-ray"
BASE_VARIABLE = "SLURM_DEPLOYMENT_BASE_PATH"

_SESSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,39}")
_MEMORY = ("mem", "mem_per_cpu")
# Our names for sbatch's options; the rest is sbatch's long name with underscores.
_SBATCH_NAMES = {"time_limit": "time", "cpus": "cpus-per-task", "num_nodes": "nodes"}


class SlurmQueueConfig(StrictConfig):
    """What each node of a cluster asks Slurm for; what is not said, the site decides."""

    partition: str | None = Field(
        default=None, description="Default: the site's default partition."
    )
    qos: str | None = Field(default=None, description="Quality of service.")
    account: str | None = Field(default=None, description="Charge jobs to this account.")
    time_limit: str | None = Field(
        default=None, description='Walltime of each job ("01:00:00"); default: the partition\'s.'
    )
    num_nodes: Annotated[int | None, at_least(1)] = Field(
        default=None,
        description="At most this many worker nodes; default: as many as Ray has work for and "
        "Slurm grants.",
    )
    cpus: Annotated[int | None, at_least(1)] = Field(
        default=None, description="CPUs of a node; a launcher may say more."
    )
    mem: str | None = Field(
        default=None, description='Memory of a node ("8G"); not with mem_per_cpu.'
    )
    mem_per_cpu: str | None = Field(default=None, description='Memory for each CPU ("2G").')
    gpus_per_node: Annotated[int | None, at_least(0)] = Field(
        default=None, description="GPUs of a node, of any type."
    )
    gres: str | None = Field(
        default=None, description='Generic resources of a node ("gpu:a100:2").'
    )
    constraint: str | None = Field(default=None, description="Features that hosts must have.")
    reservation: str | None = Field(default=None, description="Run in this reservation.")
    exclude: str | None = Field(default=None, description="Hosts not to use.")
    nodelist: str | None = Field(default=None, description="Hosts to use.")
    extra_slurm_opts: dict[str, Any] = Field(
        default_factory=dict, description="Any other option of sbatch by its long name, checked."
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if not has_variables(self):
            self.options()  # a mistake shows where it was made

    def options(self) -> dict[str, Any]:
        """The options of sbatch, without ``nodes`` (see ``num_nodes``). Raises ConfigError."""
        values = resolved(self)
        given = {
            name: getattr(values, name)
            for name in type(self).model_fields
            if name not in ("extra_slurm_opts", "num_nodes") and getattr(values, name) is not None
        }
        if given.get("gpus_per_node") == 0:
            del given["gpus_per_node"]
        options = sbatch_options(given, "SlurmQueueConfig")
        extra = sbatch_options(values.extra_slurm_opts, "SlurmQueueConfig.extra_slurm_opts")
        twice = sorted(options.keys() & extra.keys())
        if twice:
            raise ConfigError(f"SlurmQueueConfig: {twice[0]!r} is also in extra_slurm_opts")
        return _validated({**options, **extra}, "SlurmQueueConfig")


def sbatch_options(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options checked, by sbatch's long names or by those of SlurmQueueConfig.

    ``False`` turns an option off that would come from elsewhere, and is kept. Raises ConfigError.
    """
    options = by_sbatch_names(given, where)
    checked = _validated(options, where)
    return {**{key: False for key, value in options.items() if value is False}, **checked}


def by_sbatch_names(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options by sbatch's long names, whichever they were given by. Raises ConfigError."""
    names: dict[str, str] = {}
    for name in given:
        if not isinstance(name, str):
            raise ConfigError(f"{where}: {name!r} is not the name of an option; quote it in YAML")
        known = _SBATCH_NAMES.get(name, name.replace("_", "-"))
        if known in names:
            raise ConfigError(f"{where}: {names[known]!r} and {name!r} are one option; give one")
        names[known] = name
    return {known: given[name] for known, name in names.items()}


class SlurmResource(StrictResource):
    """A Slurm site: how to reach it, what to ask for, where files go."""

    ssh: SSHConnectionResource | None = Field(
        default=None, description="The edge node; None: Slurm's commands are on this machine."
    )
    queue: SlurmQueueConfig = Field(
        default_factory=lambda: SlurmQueueConfig(), description="What each node asks for."
    )
    remote_base: str | None = Field(
        default=None,
        description="Folder for runs, clusters and environments on the file system that all hosts "
        f"share; default: ${BASE_VARIABLE}, then {DEFAULT_BASE}.",
    )
    provider_options: dict[str, Any] = Field(
        default_factory=dict,
        description="More keys of a cluster YAML's `provider:` (network, ports, head_ssh, …).",
    )

    def transport(self) -> Transport:
        """Where Slurm's commands run. Raises ConfigError."""
        return LocalTransport() if self.ssh is None else self.ssh.transport()

    def base_path(self) -> str:
        """``remote_base`` as given: absolute or beginning with ``~/``. Raises ConfigError."""
        path = resolved(self).remote_base or os.environ.get(BASE_VARIABLE) or DEFAULT_BASE
        path = path.rstrip("/")
        if path.startswith(("$HOME/", "${HOME}/")):
            path = "~/" + path.partition("/")[2]
        if not path.startswith(("/", "~/")):
            raise ConfigError(
                f"SlurmResource.remote_base {path!r} must be absolute or start with ~/ : it is "
                "used on every host of the cluster"
            )
        return path


class SlurmSessionResource(StrictResource):
    """A session (mode ``slurm-session``): its name, how long it stays, and how its clusters differ
    from what ``SlurmResource`` says."""

    slurm: SlurmResource | None = Field(default=None, description="Default: ComputeResource.slurm.")
    name: str = Field(
        default="session",
        description="Who gives the same name shares the clusters; they are called after it.",
    )
    cluster_idle_timeout: Annotated[int, at_least(1)] = Field(
        default=600, description="Seconds after which a cluster leaves that no step uses."
    )
    num_nodes: Annotated[int | None, at_least(1)] = Field(
        default=None, description="Default: the queue's."
    )
    time_limit: str | None = Field(default=None, description="Default: the queue's.")
    partition: str | None = Field(default=None, description="Default: the queue's.")
    qos: str | None = Field(default=None, description="Default: the queue's.")
    account: str | None = Field(default=None, description="Default: the queue's.")
    mem: str | None = Field(default=None, description="Default: the queue's.")
    mem_per_cpu: str | None = Field(default=None, description="Default: the queue's.")
    gpus_per_node: Annotated[int | None, at_least(0)] = Field(
        default=None, description="Default: the queue's."
    )
    constraint: str | None = Field(default=None, description="Default: the queue's.")
    reservation: str | None = Field(default=None, description="Default: the queue's.")
    exclude: str | None = Field(default=None, description="Default: the queue's.")
    nodelist: str | None = Field(default=None, description="Default: the queue's.")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if not has_variables(self.name) and not _SESSION_NAME.fullmatch(self.name):
            raise ConfigError(
                f"SlurmSessionResource.name {self.name!r} cannot be part of a cluster's name: use "
                "letters, digits and '-', starting with a letter or digit, 40 at most"
            )

    def applied(self, queue: SlurmQueueConfig) -> SlurmQueueConfig:
        """The queue with what the session says differently. Raises ConfigError."""
        names = type(self).model_fields.keys() & SlurmQueueConfig.model_fields.keys()
        given = {name: getattr(self, name) for name in names}
        changes = {name: value for name, value in given.items() if value is not None}
        kept = dict(queue)
        if changes.keys() & set(_MEMORY):  # another word on memory takes the place of the first
            kept = {name: value for name, value in kept.items() if name not in _MEMORY}
        return SlurmQueueConfig(**{**kept, **changes})


class SlurmRunConfig(StrictConfig):
    """What one run may change, from the launchpad."""

    force_env_push: bool = Field(
        default=False, description="Pack and upload the environment again."
    )
    skip_payload_upload: bool = Field(
        default=False,
        description="The payload is on the cluster already: at remote_payload_path, in `scripts/` "
        "of pre_deployed_env_path, or a module of the environment.",
    )
    remote_payload_path: str | None = Field(
        default=None,
        description="The script's path on the cluster, absolute or from `~/`; its arguments are "
        "those of the payload_path.",
    )
    environment_name: str | None = Field(
        default=None,
        description="The pixi environment to pack, for this run; mode local packs nothing.",
    )
    extra_files: list[str] | None = Field(
        default=None, description="Files to put beside the payload, more than the asset names."
    )


def _validated(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    try:
        return dict(validate(options, where))
    except OptionError as error:
        raise ConfigError(str(error)) from None
