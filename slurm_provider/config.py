"""The ``provider:`` section of a cluster YAML: declared once, with its help (the README's table
is generated from it by ``python -m slurm_provider.reference``)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from slurm_provider.agent.scratch import MAX_TEMP_DIR_BYTES
from slurm_provider.cluster_paths import folder_problem
from slurm_provider.errors import ConfigError


def _number_text_or_flag(value: object) -> str | bool:
    if isinstance(value, bool | str):
        return value
    if not isinstance(value, int | float):
        raise ValueError("give a string or a number, or true or false")
    return str(value)


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("contains a line break or another character that cannot be printed")
    return value


def _cluster_dir(value: str) -> str:
    if problem := folder_problem(value):
        raise ValueError(problem)
    return value


# For the shortest user id; what is left for the node's own part: see agent/scratch.py.
_MAX_TEMP_DIR_BYTES = MAX_TEMP_DIR_BYTES - len("/rs-0/abcdefghij-0")

NumberTextOrFlag = Annotated[str | bool, PlainValidator(_number_text_or_flag)]
Line = Annotated[str, AfterValidator(_one_line)]
_UNQUOTED = (
    "give text in quotes (YAML reads an unquoted on as true, 010 as 8, 1:30 as 90 and 1.10 as 1.1)"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_VARIABLE_BYTES = 128 * 1024 - 1  # Linux: MAX_ARG_STRLEN, with the name


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EnvironmentConfig(_Section):
    """How Ray gets on PATH in every job; at most one of the three."""

    activate: str | None = Field(
        None, description="Shell lines, e.g. `module load python; source ~/venv/bin/activate`."
    )
    prefix: Line | None = Field(
        None, description="A folder with `bin/ray` that every host sees (venv, conda, pixi)."
    )
    archive: Line | None = Field(
        None,
        description="A packed environment (tar, conda-pack) on the shared file system; unpacked "
        "to each host's own disk once.",
    )

    @field_validator("prefix", "archive")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is not None and not (value == "~" or value.startswith(("/", "~/"))):
            raise ValueError(
                "give an absolute path or one that starts with ~/ (jobs start in /; for shell "
                "variables use activate)"
            )
        return value

    @field_validator("prefix")
    @classmethod
    def _can_be_in_path(cls, value: str | None) -> str | None:
        if value is not None and ":" in value:
            raise ValueError("its bin folder goes into PATH, where ':' ends a folder")
        return value

    @model_validator(mode="after")
    def _one_of(self) -> EnvironmentConfig:
        given = [k for k in ("activate", "prefix", "archive") if getattr(self, k) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of activate, prefix and archive, not {' and '.join(given)}")
        return self


class SshConfig(_Section):
    """The edge node, when `ray up` runs elsewhere."""

    host: Line = Field(description="Edge node: a name or address, or a Host of ~/.ssh/config.")
    user: Line | None = Field(None, description="Login name; default: ~/.ssh/config, then yours.")
    port: int | None = Field(None, description="SSH port; default: ~/.ssh/config, then 22.")
    config_path: Line = Field("~/.ssh/config", description="SSH configuration that is honoured.")
    key_path: Line | None = Field(None, description="Private key; default: agent, ~/.ssh/config.")
    jump_host: Line | None = Field(
        None, description="`user@host:port` on the way; several separated by commas."
    )
    known_hosts: Line | None = Field(None, description="File of host keys; default: yours.")
    host_key_policy: Literal["strict", "accept-new", "off"] = Field(
        "strict", description="What to do with an unknown host key."
    )


class ProviderConfig(_Section):
    """Keys of ``provider:``. Ray's own (``type``, ``module``, ...) are checked by Ray."""

    cluster_dir: Annotated[str, AfterValidator(_cluster_dir)] | None = Field(
        None,
        description="The cluster's folder, on a file system that all hosts share, mode 0700. "
        "Nobody else may be able to replace a folder above it. Default: "
        "`~/.ray-slurm/<cluster_name>`.",
    )
    defaults: dict[str, Any] = Field(
        default_factory=dict, description="sbatch options for all node types (see node_config)."
    )
    environment: EnvironmentConfig = Field(
        default_factory=lambda: EnvironmentConfig.model_validate({}),
        description="`activate`, `prefix` or `archive`; default: what a login shell has.",
    )
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment variables for every node (no secrets)."
    )
    head_placement: Literal["slurm", "edge"] = Field(
        "slurm", description="Head in a Slurm job, or on the edge node."
    )
    start_together: bool = Field(
        False, description="Head and all `min_workers` are one heterogeneous Slurm job: they start "
        "at the same time. Later workers, also replacements, are jobs of their own."
    )  # fmt: skip
    ssh: SshConfig | None = Field(
        None, description="Reach Slurm over SSH; default: Slurm's commands are on this machine."
    )
    head_ssh: SshConfig | None = Field(
        None, description="For sites whose compute nodes may not submit: how the head gets back "
        "to a host that may, as seen from the head; keys as in `ssh`."
    )  # fmt: skip
    auth: Literal["token", "disabled"] = Field(
        "token", description="Ray's token authentication for everything in the cluster."
    )
    tls: bool = Field(
        False, description="Encrypt what Ray's processes say to each other (TLS, with certificates "
        "made for each cluster), from Ray 2.55 on; see docs/security.md."
    )  # fmt: skip
    network: Line | None = Field(
        None, description="Interface (`ib0`) or CIDR block for Ray's traffic; default: the route "
        "to the head."
    )  # fmt: skip
    ports: str = Field(
        "20000-32767", description="TCP ports Ray may use on compute nodes (`low-high`)."
    )
    temp_dir: Line | None = Field(
        None, description="Node-local base for Ray's session folder; default: $SLURM_TMPDIR, "
        "$TMPDIR, /tmp."
    )  # fmt: skip
    object_store_memory_mb: int | None = Field(
        None, ge=80, description="Object store of each node; default: 30 % of its memory."
    )
    ray_start_options: dict[str, NumberTextOrFlag] = Field(
        default_factory=dict,
        description="More `ray start` options for every node, without `--`; `true` for a flag.",
    )
    max_pending: int | None = Field(
        None, ge=1, description="At most this many of the cluster's jobs wait in the queue."
    )
    pending_idle_timeout_s: int = Field(
        60, ge=0, description="Seconds until a queued job that no demand needs is withdrawn."
    )
    drain_lead_s: int = Field(
        120, ge=10, description="Seconds before its time limit at which a node takes no new work."
    )
    head_timeout_s: int = Field(
        120, ge=5, description="Seconds a started worker looks for the head before it gives up."
    )
    autoscaler_interval_s: int = Field(
        1, ge=1, description="Seconds between two looks of Ray's autoscaler at the demand."
    )
    unleased_timeout_s: int | None = Field(
        None, ge=0, description="The cluster takes itself down so many seconds after its last "
        "lease (programs such as the Dagster glue hold leases) and its last Ray job have ended; "
        "default: never."
    )  # fmt: skip
    keep_logs: bool = Field(
        False, description="Copy Ray's logs of each node to `cluster_dir/logs` and keep these "
        "after `ray down`."
    )  # fmt: skip

    @field_validator("ports")
    @classmethod
    def _port_range(cls, value: str) -> str:
        low, high = _ports(value)
        if low < 1024 or high > 65535 or high - low < 512:
            raise ValueError("use `low-high` between 1024 and 65535, at least 512 ports wide")
        return value

    @field_validator("temp_dir")
    @classmethod
    def _place_on_hosts(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("/", "$")):
            raise ValueError("give an absolute path; it may begin with a variable of the job")
        if value is not None and "$" not in value and len(value.encode()) > _MAX_TEMP_DIR_BYTES:
            raise ValueError(
                f"{len(value.encode())} bytes are too long: of the 107 of Ray's sockets "
                f"{_MAX_TEMP_DIR_BYTES} are left for it; give a shorter one"
            )
        return value

    @field_validator("env", mode="before")
    @classmethod
    def _can_be_exported(cls, value: object) -> object:
        for name, text in value.items() if isinstance(value, dict) else ():
            if not isinstance(name, str):
                raise ValueError(f"{name!r}: {_UNQUOTED}")
            if not _VARIABLE.fullmatch(name):
                raise ValueError(
                    f"{name!r} cannot be a variable of the shell; use letters, digits and '_', not "
                    "starting with a digit"
                )
            if not isinstance(text, str):
                raise ValueError(f"{name}: {_UNQUOTED}")
            if len(f"{name}={text}".encode(errors="replace")) > _MAX_VARIABLE_BYTES:
                raise ValueError(f"{name} is longer than Linux takes ({_MAX_VARIABLE_BYTES} bytes)")
        return value

    @field_validator("ray_start_options")
    @classmethod
    def _plain_option_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            if not re.fullmatch(r"[a-z][a-z0-9-]*", key):
                raise ValueError(f"{key!r}: give the option's name without dashes in front")
        return value

    @field_validator("tls")
    @classmethod
    def _is_no_variable_too(cls, value: bool, info: ValidationInfo) -> bool:
        env = info.data.get("env", {})
        own = sorted(key for key in env if key == "RAY_USE_TLS" or key.startswith("RAY_TLS_"))
        if value and own:
            raise ValueError(f"sets Ray's own variables; remove {', '.join(own)} from provider.env")
        return value

    @property
    def port_range(self) -> tuple[int, int]:
        return _ports(self.ports)


# Ray's own keys of the section, and those a resolved configuration carries between processes.
_RAYS_KEYS = {"type", "module", "disable_node_updaters", "disable_launch_config_check",
              "foreground_node_launch", "use_internal_ips", "use_external_head_ip",
              "worker_liveness_check"}  # fmt: skip


def parse_provider(section: Mapping[str, Any]) -> ProviderConfig:
    """Validate the section; raises ConfigError naming the key, the value and what is allowed."""
    for key in section:
        if not isinstance(key, str):
            raise ConfigError(f"provider: {key!r} is not a key; YAML reads on and 010 as no text")
    own = {k: v for k, v in section.items() if k not in _RAYS_KEYS and not k.startswith("_")}
    try:
        return ProviderConfig.model_validate(own)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(e) for e in error.errors())) from None


def check_texts(value: object, place: str = "") -> None:
    """Refuse text that no file and no process takes, anywhere in a configuration: a NUL, or half
    of a character that YAML writes in two. Raises ConfigError."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_texts(key, place)
            check_texts(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            check_texts(item, place)
    elif isinstance(value, str) and _UNWRITABLE.search(value):
        raise ConfigError(
            f"{ascii(place)[1:-1]}: contains a NUL or half a character (\\0, \\ud800 to \\udfff), "
            "which no file and no command can hold"
        )


def _sentence(error: Any) -> str:
    key = ".".join(str(part) for part in ("provider", *error["loc"]))
    if error["type"] == "extra_forbidden":
        model: type[BaseModel] = ProviderConfig
        if len(error["loc"]) > 1:
            model = {"environment": EnvironmentConfig}.get(str(error["loc"][0]), SshConfig)
        known = list(model.model_fields)
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"closest: {close[0]!r}" if close else f"known: {', '.join(known)}"
        return f"{key} is not a key of this section; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    if error["loc"] == ("env",) and error["type"] == "value_error":
        return f"{key}.{message}"  # begins with the variable's name; values may be secret
    found = repr(error["input"])
    shown = found if len(found) <= _SHOWN else f"{found[:_SHOWN]}... ({len(found)} characters)"
    return f"{key}: {message} (found {shown})"


_SHOWN = 200
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def _ports(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)-(\d+)", text)
    if not match:
        raise ValueError("use `low-high`, e.g. 20000-32767")
    return int(match.group(1)), int(match.group(2))


_SECTIONS: dict[str, type[BaseModel]] = {
    "environment": EnvironmentConfig,
    "ssh": SshConfig,
}  # `head_ssh` has those of `ssh`


def markdown_table() -> str:
    """The README's table of provider keys."""
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in ProviderConfig.model_fields.items():
        # A factory makes an empty section or mapping; in YAML it is `false`, not `False`.
        default = None if field.default_factory is not None else field.default
        words = "false" if default is False else str(default)
        shown = "" if default is None else f"`{words}`"
        lines.append(f"| `{name}` | {shown} | {field.description} |")
        if name in _SECTIONS:
            for sub, subfield in _SECTIONS[name].model_fields.items():
                lines.append(f"| `{name}.{sub}` | | {subfield.description} |")
    return "\n".join(lines)
