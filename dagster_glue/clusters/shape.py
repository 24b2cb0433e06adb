"""A cluster's shape: what two askers have to agree on to share one, and which is large enough
(pure).

A shape is a cluster's configuration without its name, its place and the way there, which differ
between askers that mean the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slurm_provider.slurm import (
    Gres,
    parse_gres,
    parse_memory_mb,
    parse_time_s,
    requested,
    validate,
)

Shape = Mapping[str, Any]

_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
# What `requested` makes numbers of.
_AMOUNTS = (
    "cpus-per-task", "cpus-per-gpu", "mincpus", "gres", "gpus", "gpus-per-node", "gpus-per-task",
    "gpus-per-socket", "sockets-per-node", *_MEMORY,
)  # fmt: skip
# How long something stays without use does not change what it can run.
_ANY = ("unleased_timeout_s", "idle_timeout_minutes")
_UNLIMITED_S = float("inf")


def shape_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of a cluster's configuration."""
    shape = {key: value for key, value in config.items() if key != "cluster_name"}
    shape["provider"] = _without(config["provider"], ("cluster_dir", "ssh"))
    return shape


def config_of(
    shape: Shape, name: str, cluster_dir: str, ssh: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The configuration of a cluster of this shape."""
    provider = {**shape["provider"], "cluster_dir": cluster_dir}
    if ssh is not None:
        provider["ssh"] = dict(ssh)
    return {**shape, "cluster_name": name, "provider": provider}


def fingerprint(shape: Shape) -> str:
    """Short, and equal for equal shapes only."""
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:10]


def fits(have: Shape, wanted: Shape) -> bool:
    """Whether a cluster can do all that the other one could.

    It has to have the same environment, the same sbatch options (partition, account, qos,
    constraint, …), the same kind and names of nodes; and CPUs, memory and GPUs of each node, the
    number of workers and the time limit have to be at least as large. An amount that is not given
    is the site's, so it is only known to be enough for another that is not given.
    """
    if not _same_but(have, wanted, (*_ANY, "provider", "max_workers", "available_node_types")):
        return False
    if not _same_but(have["provider"], wanted["provider"], (*_ANY, "defaults")):
        return False
    defaults = have["provider"]["defaults"], wanted["provider"]["defaults"]
    if not _same_but(*defaults, ("time", *_AMOUNTS)) or not _lasts(*defaults):
        return False
    types = have["available_node_types"], wanted["available_node_types"]
    return types[0].keys() == types[1].keys() and all(
        _type_fits(types[0][name], types[1][name], *defaults) for name in types[1]
    )


def differences(have: Shape, wanted: Shape, where: str = "") -> list[str]:
    """What differs, as ``key.key: A here, B wanted``."""
    found = []
    for key in sorted({*have, *wanted} - set(_ANY), key=str):
        ours, theirs = have.get(key), wanted.get(key)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            found += differences(ours, theirs, f"{where}{key}.")
        elif ours != theirs:
            found.append(f"{where}{key}: {_shown(ours)} there, {_shown(theirs)} wanted")
    return found


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def size(shape: Shape) -> tuple[float, ...]:
    """Greater for a larger cluster."""
    defaults = shape["provider"]["defaults"]
    nodes = [_node(each, defaults) for each in shape["available_node_types"].values()]
    return (
        sum(node.gpus.count for node in nodes),
        sum(node.cpus for node in nodes),
        sum(node.memory_mb or 0 for node in nodes),
        shape["max_workers"],
    )


@dataclass(frozen=True)
class _NodeSize:
    cpus: int
    memory_mb: float | None
    """None: the site's default."""
    gpus: Gres
    others: tuple[Gres, ...]

    def fits(self, wanted: _NodeSize) -> bool:
        if self.cpus < wanted.cpus or self.gpus.count < wanted.gpus.count:
            return False
        if wanted.gpus.count and wanted.gpus.type not in (None, self.gpus.type):
            return False
        if self.others != wanted.others:
            return False
        if self.memory_mb is None or wanted.memory_mb is None:
            return self.memory_mb is wanted.memory_mb
        return self.memory_mb >= wanted.memory_mb


def _type_fits(have: Shape, wanted: Shape, have_defaults: Shape, wanted_defaults: Shape) -> bool:
    if not _same_but(have, wanted, ("node_config", "min_workers", "max_workers")):
        return False
    if not _same_but(have["node_config"], wanted["node_config"], _AMOUNTS):
        return False
    counts = ("min_workers", "max_workers")
    if any(have.get(count, 0) < wanted.get(count, 0) for count in counts):
        return False
    return _node(have, have_defaults).fits(_node(wanted, wanted_defaults))


def _node(node_type: Shape, defaults: Shape) -> _NodeSize:
    options = validate({**defaults, **node_type["node_config"]}, "node_config")
    asked = requested(options)
    listed = parse_gres(str(options.get("gres", "")))
    return _NodeSize(
        cpus=asked.cpus,
        memory_mb=float("inf") if _is_all_memory(options) else asked.memory_mb,
        gpus=Gres("gpu", asked.gpu_type, asked.gpus),
        others=tuple(gres for gres in listed if gres.name != "gpu"),
    )


def _is_all_memory(options: Shape) -> bool:
    """Whether it asks for all of the host's, as 0 does; for what is given first, as in sbatch."""
    given = next((options[key] for key in _MEMORY if key in options), None)
    return given is not None and parse_memory_mb(str(given)) == 0


def _lasts(have: Shape, wanted: Shape) -> bool:
    if "time" not in have or "time" not in wanted:
        return have.get("time") == wanted.get("time")
    limits = [parse_time_s(str(each["time"])) or _UNLIMITED_S for each in (have, wanted)]
    return limits[0] >= limits[1]


def _same_but(have: Shape, wanted: Shape, names: tuple[str, ...]) -> bool:
    return _without(have, names) == _without(wanted, names)


def _without(values: Shape, names: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in names}
