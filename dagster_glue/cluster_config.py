"""From a launcher and a queue to a cluster's description, as `ray up` takes it (pure)."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster_glue.clusters.hetjob import component_size, components_in
from dagster_glue.launchers import Launcher, RayLauncher
from dagster_glue.modes import ExecutionMode
from dagster_glue.slurm import SlurmQueueConfig, by_sbatch_names, sbatch_options
from dagster_glue.strict import resolved
from slurm_provider.bootstrap import HEAD_START_COMMAND
from slurm_provider.errors import ConfigError
from slurm_provider.slurm import parse_memory_mb

_MEMORY_OPTIONS = ("mem", "mem-per-cpu", "mem-per-gpu")
_GPU_OPTIONS = ("gres", "gpus-per-node", "gpus")

HEAD_TYPE = "head"
WORKER_TYPE = "worker"
UNBOUNDED_WORKERS = 1000  # Ray wants a number; the demand and Slurm's own limits decide
UNLEASED_TIMEOUT_S = 60
_IDLE_TIMEOUT_S = {ExecutionMode.SLURM: 60.0, ExecutionMode.SLURM_SESSION: 300.0}

# Options about one host's resources: the head has its own.
_OF_A_WORKER = (
    "cpus-per-task", "cpus-per-gpu", "mem", "mem-per-cpu", "mem-per-gpu", "gres", "gpus-per-node",
    "gpus", "gpu-bind", "gpu-freq", "exclusive", "mincpus", "tmp", "threads-per-core",
    "ntasks-per-gpu", "tres-per-task",
)  # fmt: skip


@dataclass(frozen=True)
class RunNeeds:
    """What one run asks for; see :func:`run_needs`."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """By sbatch's long names; False for one that is turned off."""
    nodes: int | None = None
    """The most workers."""


@dataclass(frozen=True)
class ClusterPlan:
    """What decides a cluster."""

    name: str
    mode: ExecutionMode
    launcher: Launcher
    queue: SlurmQueueConfig
    cluster_dir: str
    needs: RunNeeds = field(default_factory=RunNeeds)
    """Of this run, over the launcher's and the queue's."""
    ssh: Mapping[str, Any] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """``provider.environment``."""
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    unleased_timeout_s: int = UNLEASED_TIMEOUT_S


def cluster_config(plan: ClusterPlan) -> dict[str, Any]:
    """A cluster YAML as a mapping, for :class:`slurm_provider.api.RayCluster`, which checks it.

    Raises ConfigError for what only the glue knows to be wrong.
    """
    launcher = resolved(plan.launcher)
    options = _options(plan, None)
    if isinstance(launcher, RayLauncher):
        if launcher.ray_address is not None:
            raise ConfigError("RayLauncher.ray_address names a cluster: there is none to make")
        node_types = _ray_node_types(plan, launcher)
    else:
        node_types = _head_only(options, plan.needs.nodes)
    max_workers = sum(node_type["max_workers"] for node_type in node_types.values())
    return {
        "cluster_name": plan.name,
        "max_workers": max_workers,
        "provider": _provider(plan, launcher, _without(options, _OF_A_WORKER)),
        "head_node_type": HEAD_TYPE,
        "available_node_types": node_types,
        "idle_timeout_minutes": _idle_timeout_s(launcher, plan.mode) / 60,
        "head_start_ray_commands": [_head_start(launcher)],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
    }


def run_needs(requirements: Mapping[str, Any], extra: Mapping[str, Any]) -> RunNeeds:
    """What one run asks for, ``extra_slurm_opts`` over ``resource_requirements``.

    Both may be given by sbatch's names or those of SlurmQueueConfig. Raises ConfigError.
    """
    required = _of_run(requirements, "resource_requirements")
    chosen = _of_run(extra, "extra_slurm_opts")
    nodes = required.nodes if chosen.nodes is None else chosen.nodes
    return RunNeeds(_over(required.options, chosen.options), nodes)


def _of_run(given: Mapping[str, Any], where: str) -> RunNeeds:
    options = by_sbatch_names(given, where)
    nodes = options.pop("nodes", None)
    checked = sbatch_options(options, where)
    return RunNeeds(checked, None if nodes is None else _whole_number(nodes, where))


def _options(plan: ClusterPlan, launcher: RayLauncher | None) -> dict[str, Any]:
    """All sbatch options of a launcher's worker.

    The queue speaks first, then the launcher, then this run. None: what the launchers share.
    """
    options = plan.queue.options()
    if launcher is not None:
        if launcher.num_cpus_per_node is not None:
            options["cpus-per-task"] = launcher.num_cpus_per_node
        if launcher.num_gpus_per_node is not None:
            options = _with_gpus(options, launcher.num_gpus_per_node)
        own = sbatch_options(launcher.slurm_opts, "RayLauncher.slurm_opts")
        options = _overridden(options, own)
    return _overridden(options, plan.needs.options)


def _ray_node_types(plan: ClusterPlan, launcher: RayLauncher) -> dict[str, Any]:
    workers = {}
    components = components_in(launcher)
    if len(components) > 1 and plan.needs.nodes is not None:
        raise ConfigError(
            "run_hetjob: the run's number of nodes says nothing about which component has how "
            "many; give min_workers to each launcher"
        )
    for component in components:
        name = component.component_id or WORKER_TYPE
        if name == HEAD_TYPE:
            raise ConfigError(
                f"RayLauncher.component_id {name!r} is the head's name; choose another"
            )
        workers[name] = _worker_type(plan, component)
    head = {
        "cpus-per-task": launcher.head_cpus,
        "mem": launcher.head_mem,
        **sbatch_options(launcher.head_slurm_opts, "RayLauncher.head_slurm_opts"),
    }
    others_lack_mem = any("mem" not in worker["node_config"] for worker in workers.values())
    if plan.mode is ExecutionMode.SLURM_HETJOB and "mem" in head and others_lack_mem:
        head = _with_memory_per_cpu(head)
    return {
        HEAD_TYPE: {"node_config": head, "resources": {"CPU": 0}, "max_workers": 0},
        **workers,
    }


def _with_memory_per_cpu(head: Mapping[str, Any]) -> dict[str, Any]:
    """The same memory said in the way that sbatch does not pass on to the later components."""
    try:
        mem_mb = parse_memory_mb(str(head["mem"]))
    except ValueError:
        return dict(head)  # the provider refuses it with its reason
    per_cpu_mb = math.ceil(mem_mb / int(head["cpus-per-task"]))
    return {**_without(head, ("mem",)), "mem-per-cpu": f"{per_cpu_mb}M"}


def _worker_type(plan: ClusterPlan, launcher: RayLauncher) -> dict[str, Any]:
    options = _options(plan, launcher)
    common = _without(_options(plan, None), _OF_A_WORKER)  # provider.defaults
    own = {key: value for key, value in options.items() if common.get(key) != value}
    turned_off = {key: False for key in common if key not in options}
    min_workers, max_workers = _worker_range(plan, launcher)
    component_id = launcher.component_id
    return {
        "node_config": {**turned_off, **own},
        "resources": {component_id: 1} if component_id else {},
        "labels": {"component-id": component_id} if component_id else {},
        "min_workers": min_workers,
        "max_workers": max_workers,
    }


def _worker_range(plan: ClusterPlan, launcher: RayLauncher) -> tuple[int, int]:
    """Of the run, the launcher and the queue, the first that gives a number decides."""
    of_run, of_queue = plan.needs.nodes, resolved(plan.queue).num_nodes
    if plan.mode is ExecutionMode.SLURM_HETJOB:
        return component_size(launcher, of_queue) if of_run is None else (of_run, of_run)
    given = [number for number in (of_run, launcher.max_workers, of_queue) if number is not None]
    max_workers = given[0] if given else UNBOUNDED_WORKERS
    if launcher.min_workers > max_workers:
        whose = "the queue's num_nodes" if of_run is None else "the run's number of nodes,"
        raise ConfigError(
            f"RayLauncher.min_workers {launcher.min_workers} is more than {whose} {max_workers}"
        )
    return launcher.min_workers, max_workers


def _head_only(options: Mapping[str, Any], nodes: int | None) -> dict[str, Any]:
    if nodes is not None and nodes > 1:
        raise ConfigError(
            f"BashLauncher runs on one host, the run's number of nodes is {nodes}; use a "
            "RayLauncher to spread work over hosts"
        )
    node = {key: value for key, value in options.items() if key in _OF_A_WORKER}
    return {HEAD_TYPE: {"node_config": node, "resources": {}, "max_workers": 0}}


def _provider(plan: ClusterPlan, launcher: Launcher, defaults: Mapping[str, Any]) -> dict[str, Any]:
    provider: dict[str, Any] = {
        "type": "external",
        "module": "slurm_provider.SlurmNodeProvider",
        "cluster_dir": plan.cluster_dir,
        "defaults": dict(defaults),
        "environment": dict(plan.environment),
        # A cluster that nobody leases any more goes by itself (clusters/lease.py).
        "unleased_timeout_s": plan.unleased_timeout_s,
    }
    if plan.mode is ExecutionMode.SLURM_HETJOB:
        provider["start_together"] = True
    if plan.ssh is not None:
        provider["ssh"] = dict(plan.ssh)
    if isinstance(launcher, RayLauncher) and launcher.object_store_memory_gb is not None:
        provider["object_store_memory_mb"] = round(launcher.object_store_memory_gb * 1024)
    for key, value in plan.provider_options.items():
        if key in provider:
            raise ConfigError(
                f"SlurmResource.provider_options: {key!r} is set by the glue; see SlurmResource, "
                "SlurmQueueConfig and RayLauncher for it"
            )
        provider[key] = value
    return provider


def _head_start(launcher: Launcher) -> str:
    if not isinstance(launcher, RayLauncher):
        return HEAD_START_COMMAND
    arguments = list(launcher.ray_args)
    if launcher.head_node_address is not None:
        arguments.append(f"--node-ip-address={launcher.head_node_address}")
    return " ".join([HEAD_START_COMMAND, *map(shlex.quote, arguments)])


def _idle_timeout_s(launcher: Launcher, mode: ExecutionMode) -> float:
    if isinstance(launcher, RayLauncher) and launcher.idle_timeout is not None:
        return launcher.idle_timeout
    return _IDLE_TIMEOUT_S.get(mode, 60.0)


def _with_gpus(options: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    """Another number of GPUs, of the type that the options name."""
    others = _without(options, _GPU_OPTIONS)
    gres = str(options.get("gres", "")).split(",")
    no_gpus = [part for part in gres if part and part.split(":")[0] != "gpu"]
    if no_gpus:
        others["gres"] = ",".join(no_gpus)
    if gpus == 0:
        return others
    named = [part.removeprefix("gpu:") for part in gres if part.startswith("gpu:")]
    named += [str(options[key]) for key in ("gpus-per-node", "gpus") if key in options]
    kinds = [text.partition(":")[0] for text in named if ":" in text]
    return {**others, "gpus-per-node": f"{kinds[0]}:{gpus}" if kinds else gpus}


def _without(options: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in names}


def _overridden(options: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Options with others over them, without those that are turned off."""
    return {key: value for key, value in _over(options, own).items() if value is not False}


def _over(options: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Options with others over them."""
    if own.keys() & set(_MEMORY_OPTIONS):  # another word on memory takes the place of the first
        options = _without(options, _MEMORY_OPTIONS)
    if own.keys() & {"gpus-per-node", "gpus"} or "gpu" in str(own.get("gres", "")):
        options = _with_gpus(options, 0)
    return {**options, **own}


def _whole_number(value: Any, where: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", str(value)) or int(value) < 1:
        raise ConfigError(f"{where}: {value!r} is not a number of nodes")
    return int(value)
