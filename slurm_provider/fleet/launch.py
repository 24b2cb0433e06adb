"""A launch in full: what sbatch is asked for and what the nodes' agents will read (pure)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slurm_provider.cluster_paths import ClusterPaths
from slurm_provider.config import EnvironmentConfig, ProviderConfig
from slurm_provider.fleet.identity import HEAD, JobIdentity
from slurm_provider.node_types import NodeType
from slurm_provider.slurm import parse_time_s
from slurm_provider.slurm.output_path import escaped_pattern

_MIN_LEAD_S = 15
# A login node is not ours: the head there takes no tasks and little memory unless told otherwise.
EDGE_MEMORY_BYTES = 1 << 30
EDGE_OBJECT_STORE_MB = 256


@dataclass(frozen=True)
class LaunchRequest:
    """N nodes of one type."""

    kind: str
    node_type: str
    options: Mapping[str, Any]  # validated sbatch options of the user
    resources: Mapping[str, Any]  # what Ray plans with
    given: Mapping[str, Any]  # what of it the user wrote
    labels: Mapping[str, str]
    gpu_type: str | None
    on_edge: bool = False  # a head beside Slurm's commands instead of in a job
    initialization_commands: tuple[str, ...] = ()
    setup_commands: tuple[str, ...] = ()
    file_mounts: tuple[tuple[str, str], ...] = ()  # (staged, target)


def request_for(kind: str, node_type: NodeType) -> LaunchRequest:
    """What a checked node type asks for."""
    return LaunchRequest(
        kind=kind,
        node_type=node_type.name,
        options=node_type.options,
        resources=node_type.resources,
        given=node_type.given,
        labels=node_type.labels,
        gpu_type=node_type.gpu_type,
    )


def node_spec(
    request: LaunchRequest,
    config: ProviderConfig,
    paths: ClusterPaths,
    launch: str,
    code: str,
    head_env: Mapping[str, str],
    components: Sequence[tuple[str, int]] = (),
) -> dict[str, Any]:
    """What the agents of a launch read (``launches/LAUNCH.json``).

    ``components`` are launch and index of the nodes that a head starts: the other components of
    its heterogeneous job, in their order.
    """
    is_head = request.kind == HEAD
    reserved = ("CPU", "GPU", "memory")
    return {
        "kind": request.kind,
        "node_type": request.node_type,
        "code": code,
        "given": _edge_share(request) | {k: v for k, v in request.given.items() if k in reserved},
        "custom_resources": {k: v for k, v in request.resources.items() if k not in reserved},
        "labels": dict(request.labels),
        "gpu_type": request.gpu_type,
        "env": {**config.env, **(head_env if is_head else {})},
        "auth": config.auth,
        "ports": list(config.port_range),
        "network": config.network,
        "tls": config.tls,
        "temp_dir": config.temp_dir,
        "object_store_memory_mb": config.object_store_memory_mb
        or (EDGE_OBJECT_STORE_MB if request.on_edge else None),
        "ray_start_options": {
            key: None if value is True else value
            for key, value in config.ray_start_options.items()
            if value is not False
        },
        "time_limit_s": _time_limit_s(request),
        "drain_lead_s": config.drain_lead_s,
        "signal_lead_s": signal_lead_s(request, config),
        "head_timeout_s": config.head_timeout_s,
        "unleased_timeout_s": config.unleased_timeout_s if is_head else None,
        "keep_logs": config.keep_logs,
        "bootstrap_config": f"{paths.node(f'{launch}-0')}/bootstrap.json" if is_head else None,
        "initialization_commands": list(request.initialization_commands),
        "setup_commands": list(request.setup_commands),
        "file_mounts": [list(pair) for pair in request.file_mounts],
        "components": [list(component) for component in components],
    }


def activation(environment: EnvironmentConfig, unpack_script: str) -> str:
    """Shell lines that put the environment on PATH; ``node.sh`` sources them."""
    if environment.activate is not None:
        return environment.activate + "\n"
    if environment.prefix is not None:
        # A venv's or conda's own variables are not needed: PATH decides which python and ray run.
        # Another ray, further on in PATH, would be a surprise.
        folder = f"{_shell_path(environment.prefix)}/bin"
        return (
            f"if [ ! -x {folder}/ray ]; then\n"
            f"    printf '[job] there is no %s on %s\\n' {folder}/ray \"$HOSTNAME\" >&2\n"
            "    return 1\n"
            "fi\n"
            f'export PATH={folder}:"$PATH"\n'
        )
    if environment.archive is not None:
        return (
            f"RAY_SLURM_ARCHIVE={_shell_path(environment.archive)}\n"
            f". {shlex.quote(unpack_script)}\n"
        )
    return ":\n"


def provider_options(
    identity: JobIdentity,
    request: LaunchRequest,
    config: ProviderConfig,
    paths: ClusterPaths,
    *,
    has_script: bool = True,
) -> dict[str, Any]:
    """The sbatch options that belong to the provider.

    Without a batch script (``has_script``) there is nothing that Slurm could signal.
    """
    # In an array each task has a log of its own: %a is the task id, which is the node's index.
    index = "%a" if identity.index is None else identity.index
    options: dict[str, Any] = {
        "job-name": identity.job_name,
        "output": f"{escaped_pattern(paths.logs)}/{identity.launch}-{index}.log",
        "no-requeue": True,  # Ray replaces nodes itself; a requeued job would reuse a node id
        "chdir": "/",
        "ntasks": 1,
        "nodes": 1,
        "open-mode": "append",
    }
    lead_s = signal_lead_s(request, config)
    if lead_s is not None and has_script:
        options["signal"] = f"B:USR1@{lead_s}"
    return options


def signal_lead_s(request: LaunchRequest, config: ProviderConfig) -> int | None:
    """Seconds before the time limit at which a worker is told; at most a quarter of the limit."""
    if request.kind == HEAD:
        return None
    limit_s = _time_limit_s(request)
    if limit_s is None:
        return config.drain_lead_s
    return max(_MIN_LEAD_S, min(config.drain_lead_s, limit_s // 4))


def _edge_share(request: LaunchRequest) -> dict[str, Any]:
    return {"CPU": 0, "GPU": 0, "memory": EDGE_MEMORY_BYTES} if request.on_edge else {}


def _time_limit_s(request: LaunchRequest) -> int | None:
    time = request.options.get("time")
    return None if time is None else parse_time_s(str(time))


def _shell_path(path: str) -> str:
    """Quoted, but with a leading ``~`` still meaning the home folder."""
    if path == "~" or path.startswith("~/"):
        return '"$HOME"' + shlex.quote(path[1:]) if len(path) > 1 else '"$HOME"'
    return shlex.quote(path)
