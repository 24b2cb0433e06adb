"""From a node type in the YAML to sbatch options and the resources Ray plans with (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slurm_provider.agent.allocation import accelerator_type, ray_memory
from slurm_provider.errors import ConfigError
from slurm_provider.fleet.identity import name_error
from slurm_provider.slurm import OptionError, Requested, check_turned_off, requested, validate

_SLURM_GIVES = ("CPU", "GPU", "memory")
# As ray/_private/label_utils.py, so that a bad label does not only show on the nodes.
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE = re.compile(f"({_LABEL})?")
_LABEL_KEY = re.compile(rf"([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*/)?{_LABEL}")


@dataclass(frozen=True)
class NodeType:
    """One entry of ``available_node_types``, checked."""

    name: str
    options: Mapping[str, Any]  # sbatch options, defaults merged in
    resources: Mapping[str, int]  # what Ray plans with
    given: Mapping[str, int]  # the part of it the user wrote
    labels: Mapping[str, str]
    gpu_type: str | None  # as Slurm calls it

    @property
    def planned_labels(self) -> dict[str, str]:
        """Labels its nodes will carry for certain: Ray launches for no other ``label_selector``."""
        planned = {"slurm/node-type": self.name}
        accelerator = accelerator_type(self.gpu_type)
        if accelerator and self.resources.get("GPU"):
            planned["ray.io/accelerator-type"] = accelerator
        return {**planned, **self.labels}


def read_node_type(name: str, section: Mapping[str, Any], defaults: Mapping[str, Any]) -> NodeType:
    """Validate one node type; raises ConfigError."""
    problem = name_error(name)
    if problem:
        raise ConfigError(f"available_node_types: {name!r} cannot be a node type's name; {problem}")
    own, where = section.get("node_config") or {}, f"node_config of {name!r}"
    try:
        validate(defaults, "provider.defaults")  # first, so that its mistakes are told as its own
        check_turned_off(defaults, {}, "provider.defaults")
        check_turned_off(own, defaults, where)
        options = validate({**defaults, **own}, where)
        asked = requested(options)
    except OptionError as error:
        raise ConfigError(str(error)) from None
    given = {k: v for k, v in (section.get("resources") or {}).items()}
    for key in given:
        if not isinstance(key, str):
            raise ConfigError(
                f"resources of {name!r}: {key!r} is not text to YAML, which reads an unquoted on "
                "or 010 as something else; quote the resource's name"
            )
    resources: dict[str, int] = dict(given)
    planned: dict[str, int] = {"CPU": asked.cpus or 1}
    if asked.gpus:
        planned["GPU"] = asked.gpus
    if asked.memory_mb:
        planned["memory"] = ray_memory(asked.memory_mb)[0]
    for key in _SLURM_GIVES:
        if key not in given:
            if key in planned:
                resources[key] = planned[key]
        elif isinstance(given[key], int) and given[key] > _ceiling(key, planned, asked):
            raise ConfigError(
                f"resources of {name!r}: {key} {given[key]} is more than Slurm is asked for "
                f"({_asked_words(key, planned)}); Ray would start such nodes again and again. "
                f"Leave {key} out of resources, or ask Slurm for more in node_config"
            )
    accelerator = accelerator_type(asked.gpu_type)
    if accelerator and resources.get("GPU"):
        resources.setdefault(f"accelerator_type:{accelerator}", 1)
    return NodeType(
        name=name,
        options=options,
        resources=resources,
        given=given,
        labels=_labels(name, section.get("labels") or {}),
        gpu_type=asked.gpu_type,
    )


def check_counts(types: Mapping[str, Mapping[str, Any]], max_workers: int) -> None:
    """Refuse numbers of workers that cannot be kept; ``max_workers`` is the cluster's.

    Ray itself takes them, or ends with a traceback. Raises ConfigError.
    """
    if not isinstance(max_workers, int) or max_workers < 0:
        raise ConfigError(f"max_workers: {max_workers!r} must be an integer of 0 or more")
    for name, section in types.items():
        least = section.get("min_workers") or 0
        most = section.get("max_workers", max_workers)
        for key, count in (("min_workers", least), ("max_workers", most)):
            if not isinstance(count, int) or count < 0:
                raise ConfigError(f"{key} of {name!r}: {count!r} is no number of nodes; 0 or more")
        if least > most:
            raise ConfigError(
                f"min_workers of {name!r}: {least} is more than its max_workers ({most}); lower "
                "one or raise the other"
            )
    total = sum(section.get("min_workers") or 0 for section in types.values())
    if total > max_workers:
        raise ConfigError(
            f"max_workers: {max_workers} is less than all min_workers together ({total}); raise it"
        )


def check_object_store(node_type: NodeType, object_store_mb: int | None) -> None:
    """Refuse an object store that leaves a node no memory. Raises ConfigError."""
    memory_mb = requested(node_type.options).memory_mb
    if object_store_mb is not None and memory_mb is not None and object_store_mb >= memory_mb:
        raise ConfigError(
            f"provider.object_store_memory_mb: {object_store_mb} is part of a node's memory, and "
            f"{node_type.name!r} asks for {memory_mb} MB in all; give less, or leave it out (30 %)"
        )


def custom_resources(resources: Mapping[str, int]) -> dict[str, int]:
    """Resources that Slurm knows nothing of: passed to Ray as they are."""
    return {k: v for k, v in resources.items() if k not in _SLURM_GIVES}


def _labels(name: str, labels: Mapping[str, Any]) -> dict[str, str]:
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ConfigError(
                f"labels of {name!r}: {key!r}: {value!r} is not text to YAML, which reads an "
                "unquoted on, 010 or 1.10 as something else; quote it"
            )
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise ConfigError(
                f"labels of {name!r}: `ray start` takes no label {key!r}: {value!r}; use letters, "
                "digits, '.', '_' and '-', starting and ending with a letter or digit, 63 at most "
                "(a key may have a prefix: site.org/key)"
            )
    return dict(labels)


def _ceiling(key: str, planned: Mapping[str, int], asked: Requested) -> float:
    # Without --mem the site decides what a job gets, and an exclusive job gets all of a host, so a
    # user's figure cannot be judged here.
    if asked.exclusive or (key == "memory" and not asked.memory_mb):
        return float("inf")
    return planned.get(key, 0)


def _asked_words(key: str, planned: Mapping[str, int]) -> str:
    words = {"CPU": "cpus-per-task", "GPU": "gres or gpus-per-node", "memory": "mem"}[key]
    return f"{words}: {planned[key]}" if key in planned else f"no {words}"
