"""The cluster YAML on its way through `ray up` (pure: unless its cache is avoided, see
`config_cache`, Ray keeps the result and skips these functions when it finds it)."""

from __future__ import annotations

import copy
import hashlib
import os
import secrets
from functools import lru_cache
from importlib import resources
from typing import Any

from slurm_provider import config_cache
from slurm_provider.config import ProviderConfig, check_texts, parse_provider
from slurm_provider.errors import ConfigError
from slurm_provider.fleet.identity import name_error
from slurm_provider.node_types import check_counts, check_object_store, read_node_type
from slurm_provider.slurm import MAX_COMPONENTS, carried_over

# `--block` and everything that depends on the node is added on the node (see agent/shim.py).
HEAD_START_COMMAND = "ray start --head --autoscaling-config=~/ray_bootstrap_config.yaml"
UPSCALING_SPEED = 1000  # Ray's default, 0, launches one node per tick
IDLE_TIMEOUT_MINUTES = 5
_THIS_PROCESS = secrets.token_hex(8)  # nobody else can write that into a configuration


def fillout(config: dict[str, Any]) -> dict[str, Any]:
    """Fill in what Ray's own check, which comes next, insists on: missing keys and empty
    ``resources`` (from what is asked of Slurm).

    Ray turns an exception here into a warning and goes on, so a bad node type is left for
    :func:`resolve` to refuse.
    """
    config = copy.deepcopy(config)
    for key, default in _DEFAULTS.items():
        if not config.get(key):
            config[key] = copy.deepcopy(default)
    # Kept where it exists: filled in twice, our figures must not pass for the user's.
    given = config["provider"].setdefault("_given_resources", {})
    for name, section in config.get("available_node_types", {}).items():
        if not isinstance(section, dict) or _not_a_mapping(section):
            continue
        section.setdefault("node_config", {})
        written = given.setdefault(name, dict(section.get("resources") or {}))
        section["resources"] = dict(written)
        try:
            provider = parse_provider(config["provider"])
            if _is_edge_head(name, config, provider):
                section["resources"] = written or {"CPU": 0}
            else:
                node_type = read_node_type(name, section, provider.defaults)
                section["resources"] = dict(node_type.resources)
        except ConfigError:
            pass
    return config


def resolve(config: dict[str, Any]) -> dict[str, Any]:
    """Check everything that can be checked without Slurm and complete the configuration.

    Raises ConfigError naming key, value and what is allowed.
    """
    config = copy.deepcopy(config)
    check_texts(config)
    provider = parse_provider(config["provider"])
    problem = name_error(config["cluster_name"])
    if problem:
        raise ConfigError(f"cluster_name {config['cluster_name']!r} cannot be used; {problem}")
    if config.get("docker"):
        raise ConfigError(
            "docker: Slurm nodes run no Docker; enter a container in provider.environment.activate "
            "or use an environment archive"
        )
    if config.get("cluster_synced_files"):
        raise ConfigError("cluster_synced_files: use file_mounts, which reach every node here")
    mounts = config.get("file_mounts") or {}
    if not isinstance(mounts, dict):
        raise ConfigError(f"file_mounts must be a mapping of paths there to paths here: {mounts!r}")
    for target, source in mounts.items():
        if not isinstance(target, str) or not isinstance(source, str):
            raise ConfigError(f"file_mounts: {target} has no path here to be copied from")
    _check_autoscaler_v2()
    check_counts(config["available_node_types"], config.get("max_workers") or 0)
    given = config["provider"].get("_given_resources", {})
    for name, section in config["available_node_types"].items():
        if key := _not_a_mapping(section):
            raise ConfigError(
                f"available_node_types: {key} of {name!r} must be a mapping, not {section[key]!r}"
            )
        checked = dict(section, resources=given.get(name, section.get("resources")))
        if _is_edge_head(name, config, provider):
            _resolve_edge_head(name, section, provider)
            continue
        node_type = read_node_type(name, checked, provider.defaults)
        check_object_store(node_type, provider.object_store_memory_mb)
        asked = node_type.options.get("clusters")
        if asked != provider.defaults.get("clusters"):
            raise ConfigError(
                f"node_config of {name!r}: clusters {asked!r}: all nodes of a Ray cluster are on "
                "one Slurm cluster; name it in provider.defaults"
            )
        section["node_config"] = dict(node_type.options)
        section["resources"] = dict(node_type.resources)
        section["labels"] = node_type.planned_labels
    if provider.start_together:
        _check_together(config, provider)
    config["provider"]["disable_node_updaters"] = True  # agents do it; no SSH to compute nodes
    config["provider"]["_nodes"] = _node_commands(config)
    config["provider"]["_resolved_by"] = _code_stamp()
    config["provider"]["_resolved_in"] = _THIS_PROCESS
    return config


def _not_a_mapping(node_type: dict[str, Any]) -> str | None:
    """The key of a node type whose value is none, though it has to be."""
    keys = ("resources", "node_config", "labels")
    return next((key for key in keys if not isinstance(node_type.get(key) or {}, dict)), None)


def check_cached(section: dict[str, Any]) -> None:
    """Refuse a resolved ``provider:`` section that somebody else, or other code of ours, made.

    Ray keeps resolved configurations in its temporary folder, which all users share, by the YAML's
    hash alone. Raises ConfigError, and removes what an older version of ours left if it may.
    """
    path = section.get("_config_cache_path")
    if path is not None and section.get("_resolved_in") != _THIS_PROCESS:
        # Ray has read it by now; a file that is gone again was not ours to remove.
        why = config_cache.doubt(path) or (None if os.path.exists(path) else "is gone")
        if why is not None:
            raise ConfigError(
                f"Ray read this configuration from its cache {path}, and that {why}: another user "
                "may have written it to run commands as you. Remove it, or set TMPDIR to a folder "
                "of your own"
            )
    if "_nodes" not in section or section.get("_on_head"):
        return  # the user's own section; or one that `ray up` just handed over
    if section.get("_resolved_by") == _code_stamp():
        return
    try:
        os.unlink(str(path))
    except OSError:
        raise ConfigError(
            f"Ray's cached configuration {path} was made by another version of slurm_provider; "
            "remove it, or use --no-config-cache"
        ) from None
    raise ConfigError(
        "Ray's cached configuration was made by another version of slurm_provider. It is removed "
        "now: run the command again"
    )


_DEFAULTS: dict[str, Any] = {
    "cluster_synced_files": [],
    "file_mounts": {},
    "initialization_commands": [],
    "head_start_ray_commands": [HEAD_START_COMMAND],
    "worker_start_ray_commands": [],
    "idle_timeout_minutes": IDLE_TIMEOUT_MINUTES,
    "upscaling_speed": UPSCALING_SPEED,
}


# GCS asks every node for its waiting work once a second; on small clusters more often, so that
# demand becomes a job sooner (measured: from 1.2 s to 0.6 s at 200 ms).
_SMALL_CLUSTER = 64
_DEMAND_PERIOD_MS = 200


def demand_env(max_workers: int) -> dict[str, str]:
    """Ray's limit for how fast demand is seen (ray/src/ray/common/ray_config_def.h)."""
    if max_workers > _SMALL_CLUSTER:
        return {}
    return {"RAY_gcs_pull_resource_loads_period_milliseconds": str(_DEMAND_PERIOD_MS)}


def autoscaler_env(provider: ProviderConfig) -> dict[str, str]:
    """Ray's own limits, set for Slurm: queues of days, bursts of hundreds.

    Names and defaults: ray/autoscaler/_private/constants.py and
    ray/autoscaler/v2/instance_manager/config.py; integers only.
    """
    month_s = str(30 * 24 * 3600)
    return {
        # A job may wait in the queue for days; Ray would cancel and resubmit it after an hour.
        "RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S": month_s,
        "RAY_AUTOSCALER_RECONCILE_REQUEST_STATUS_TIMEOUT_S": "600",
        "RAY_AUTOSCALER_RECONCILE_TRANSIENT_STATUS_WARN_INTERVAL_S": "3600",
        "RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S": str(provider.pending_idle_timeout_s),
        "AUTOSCALER_UPDATE_INTERVAL_S": str(provider.autoscaler_interval_s),
        # One call to the provider, and so one sbatch, for all nodes of a type.
        "AUTOSCALER_MAX_LAUNCH_BATCH": "1000",
        "AUTOSCALER_MAX_CONCURRENT_LAUNCHES": "1000",
        # Without its dashboard the start of Ray fails, and a slow host needs more than Ray's 60 s.
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
        # Ray fails a job whose driver waits 15 min for a worker: shorter than many queues.
        "RAY_JOB_START_TIMEOUT_SECONDS": month_s,
    }


def for_head(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as the autoscaler on the head gets it."""
    config = copy.deepcopy(config)
    provider = config["provider"]
    provider.pop("_config_cache_path", None)
    provider.pop("_resolved_in", None)
    head_ssh = provider.pop("head_ssh", None)
    provider.pop("ssh", None)
    if head_ssh:
        provider["ssh"] = head_ssh
    provider["_on_head"] = True
    return config


def _node_commands(config: dict[str, Any]) -> dict[str, Any]:
    # Ray merges setup_commands into worker_setup_commands before it calls us.
    default = config.get("worker_setup_commands") or []
    return {
        # `create_node` gets one node type only, and asks Slurm about all of them for a new head.
        "head": config["head_node_type"],
        "max_workers": config.get("max_workers", 0),
        "min_workers": _min_workers(config),
        "options": {
            name: section["node_config"] for name, section in config["available_node_types"].items()
        },
        "labels": {
            name: section.get("labels") or {}
            for name, section in config["available_node_types"].items()
        },
        "initialization_commands": config.get("initialization_commands") or [],
        "file_mounts": sorted(config.get("file_mounts") or {}),
        "mount_sources": sorted((config.get("file_mounts") or {}).values()),
        "setup_commands": {
            name: section.get("worker_setup_commands", default)
            for name, section in config["available_node_types"].items()
        },
    }


def _min_workers(config: dict[str, Any]) -> dict[str, int]:
    return {
        name: section["min_workers"]
        for name, section in config["available_node_types"].items()
        if name != config["head_node_type"] and section.get("min_workers")
    }


def _check_together(config: dict[str, Any], provider: ProviderConfig) -> None:
    if provider.head_placement == "edge":
        raise ConfigError(
            "provider.start_together: the head runs on the edge node (provider.head_placement: "
            "edge), so it is no part of a Slurm job; remove one of the two"
        )
    nodes = 1 + sum(_min_workers(config).values())
    if nodes > MAX_COMPONENTS:
        raise ConfigError(
            f"provider.start_together: the head and all min_workers are {nodes} nodes, and a "
            f"heterogeneous job has {MAX_COMPONENTS} components at most; ask for fewer min_workers "
            "(max_workers may be more: later workers are jobs of their own)"
        )
    names = [config["head_node_type"], *_min_workers(config)]
    found = carried_over([config["available_node_types"][name]["node_config"] for name in names])
    if found is not None:
        source, target = names[found.source], names[found.target]
        other = ", or mem-per-cpu, which is not passed on" if found.option == "mem" else ""
        raise ConfigError(
            f"provider.start_together: {source!r} sets {found.option!r} and {target!r} does not, "
            "but sbatch passes it on to the later components of a heterogeneous job; set it for "
            f"both{other}"
        )


def _resolve_edge_head(name: str, section: dict[str, Any], provider: ProviderConfig) -> None:
    asked = (section.get("node_config") or {}).keys() - provider.defaults.keys()
    if asked:
        raise ConfigError(
            f"node_config of {name!r}: the head runs on the edge node (provider.head_placement: "
            f"edge), so Slurm is asked for nothing; remove {', '.join(sorted(asked))}"
        )
    section["node_config"] = {}


def _is_edge_head(name: str, config: dict[str, Any], provider: ProviderConfig) -> bool:
    return name == config.get("head_node_type") and provider.head_placement == "edge"


@lru_cache(maxsize=1)
def _code_stamp() -> str:
    """Changes with the code that resolves."""
    folder = resources.files("slurm_provider")
    names = ("bootstrap.py", "config.py", "node_types.py")
    return hashlib.sha256(b"".join((folder / n).read_bytes() for n in names)).hexdigest()[:12]


def _check_autoscaler_v2() -> None:
    if os.environ.get("RAY_UP_enable_autoscaler_v2", "1") != "1":  # noqa: SIM112 -- Ray's name
        raise ConfigError(
            "RAY_UP_enable_autoscaler_v2=0 asks for autoscaler v1, which tells nodes apart by IP "
            "address: two nodes on one host destroy such a cluster. Unset the variable"
        )
