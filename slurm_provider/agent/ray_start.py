"""The ``ray start`` command line of a node (pure), and how a user's own options mix with ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from os.path import basename

from slurm_provider.agent.allocation import Allocation, accelerator_type, ray_memory
from slurm_provider.agent.ports import ServicePorts

_HEAD_ONLY = ("port", "ray-client-server-port", "include-dashboard", "dashboard-port",
              "dashboard-host")  # fmt: skip
METRICS = "RAY_enable_metrics_collection"
"""Ray's switch for the metrics of its nodes, which any user of the host can read."""
_NO_PORT = 65536  # a number, because Ray falls back to its default for anything else
_BOOTSTRAP_CONFIG = "ray_bootstrap_config.yaml"


@dataclass(frozen=True)
class NodePlan:
    """Everything that decides a node's ``ray start``."""

    allocation: Allocation
    node_type: str
    address: str  # this host's, for the cluster
    worker_ports: Sequence[int]
    temp_dir: str
    shm_free_mb: int | None
    custom_resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    gpu_type: str | None = None  # as Slurm calls it
    memory_bytes: int | None = None  # the user's own figure
    object_store_memory_mb: int | None = None
    extra: Mapping[str, str | None] = field(default_factory=dict)  # provider.ray_start_options


def head_options(plan: NodePlan, ports: ServicePorts) -> dict[str, str | None]:
    """Options of ``ray start --head``; None marks a flag without value."""
    return {
        **_common_options(plan, ports),
        "--port": str(ports.gcs),
        "--ray-client-server-port": str(ports.client_server),
        # Said outright, it lets a taken port fail the start; Ray would go on without a dashboard,
        # and clients would talk to whoever took the port.
        "--include-dashboard": "true",
        "--dashboard-port": str(ports.dashboard),
        "--dashboard-host": "127.0.0.1",  # reached by tunnel; the token travels in clear
        **{f"--{key}": value for key, value in plan.extra.items()},
    }


def worker_options(
    plan: NodePlan, ports: ServicePorts, gcs_address: str
) -> dict[str, str | None]:
    """Options of a worker's ``ray start``."""
    extra = {f"--{k}": v for k, v in plan.extra.items() if k not in _HEAD_ONLY}
    return {"--address": gcs_address, **_common_options(plan, ports), **extra}


def metrics_env(ports: ServicePorts, env: Mapping[str, str]) -> dict[str, str]:
    """Where the autoscaler and the dashboard show their own metrics; ``env`` is the node's.

    Ray listens for whoever asks, on all interfaces. Unless the user's environment turns metrics on,
    the port is one that cannot be: Ray logs that once and goes on.
    """
    is_on = env.get(METRICS, "").lower() in ("1", "true")
    return {
        "AUTOSCALER_METRIC_PORT": str(ports.autoscaler_metrics if is_on else _NO_PORT),
        "DASHBOARD_METRIC_PORT": str(ports.dashboard_metrics if is_on else _NO_PORT),
    }


def merge(given: Sequence[str], options: Mapping[str, str | None], config_path: str) -> list[str]:
    """A user's ``ray start`` arguments with ours added where they say nothing.

    ``~/ray_bootstrap_config.yaml`` becomes ``config_path``: Ray hard-codes the former, and on a
    shared home two clusters of one user would read each other's configuration.
    """
    arguments = [_own_config(argument, config_path) for argument in given]
    named = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
    return arguments + to_argv({k: v for k, v in options.items() if k not in named})


def to_argv(options: Mapping[str, str | None]) -> list[str]:
    return [key if value is None else f"{key}={value}" for key, value in options.items()]


def option_value(arguments: Sequence[str], name: str) -> str | None:
    """Value of ``--name=value`` or ``--name value``; the last one wins, as in Ray."""
    found = None
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{name}="):
            found = argument.partition("=")[2]
        elif argument == name and position + 1 < len(arguments):
            found = arguments[position + 1]
    return found


def node_labels(plan: NodePlan) -> dict[str, str]:
    """Labels every node carries, then the user's own.

    ``ray start`` refuses values outside Kubernetes's form (ray/_private/label_utils.py), which
    names of hosts, partitions and GPUs need not have.
    """
    allocation = plan.allocation
    labels = {
        "slurm/node-type": plan.node_type,
        "slurm/host": allocation.host,
        "slurm/job-id": allocation.job_id,
        "slurm/partition": allocation.partition,
    }
    if allocation.end_time is not None:
        end = datetime.fromtimestamp(allocation.end_time, tz=timezone.utc)
        labels["slurm/end-time"] = end.strftime("%Y-%m-%dT%H.%M.%SZ")  # ':' is not allowed
    accelerator = accelerator_type(plan.gpu_type)
    if accelerator and allocation.gpus:
        labels["ray.io/accelerator-type"] = accelerator
    ours = {key: _label_value(value) for key, value in labels.items()}
    return {key: value for key, value in {**ours, **plan.labels}.items() if value}


def _common_options(plan: NodePlan, ports: ServicePorts) -> dict[str, str | None]:
    allocation = plan.allocation
    resources = dict(plan.custom_resources)
    accelerator = accelerator_type(plan.gpu_type)
    if accelerator and allocation.gpus:
        resources.setdefault(f"accelerator_type:{accelerator}", 1)
    options: dict[str, str | None] = {
        "--block": None,
        "--log-style": "pretty",  # the log is read by people, and not on a terminal
        "--log-color": "false",
        "--node-ip-address": plan.address,
        "--num-cpus": str(allocation.cpus),
        "--num-gpus": str(allocation.gpus),
        "--resources": json.dumps(resources),
        "--labels": ",".join(f"{k}={v}" for k, v in node_labels(plan).items()),
        "--temp-dir": plan.temp_dir,
        "--node-manager-port": str(ports.node_manager),
        "--object-manager-port": str(ports.object_manager),
        "--runtime-env-agent-port": str(ports.runtime_env_agent),
        "--dashboard-agent-grpc-port": str(ports.dashboard_agent_grpc),
        "--dashboard-agent-listen-port": str(ports.dashboard_agent_http),
        "--metrics-export-port": str(ports.metrics_export),
        "--worker-port-list": ",".join(str(port) for port in plan.worker_ports),
    }
    memory, store = ray_memory(allocation.memory_mb, plan.shm_free_mb)
    options["--memory"] = str(memory)
    options["--object-store-memory"] = str(store)
    if plan.memory_bytes is not None:
        options["--memory"] = str(plan.memory_bytes)
    if plan.object_store_memory_mb is not None:
        options["--object-store-memory"] = str(plan.object_store_memory_mb * 1024 * 1024)
    return options


def _label_value(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63].strip("-._")


def _own_config(argument: str, config_path: str) -> str:
    name, equals, value = argument.rpartition("=")
    if basename(value) == _BOOTSTRAP_CONFIG:
        return f"{name}{equals}{config_path}"
    return argument
