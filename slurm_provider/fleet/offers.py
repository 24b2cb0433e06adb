"""What a partition's hosts have, beside what a node type asks for (pure).

Slurm says no in words that name neither ("Requested node configuration is not available"), or takes
a job that it will never start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slurm_provider.slurm import (
    Gres,
    HostGroup,
    Partition,
    Requested,
    parse_gres,
    requested,
    time_text,
)

_CPUS = ("cpus-per-task", "cpus-per-gpu", "mincpus")
_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
_GRES = ("gres", "gpus-per-node", "gpus-per-task", "gpus", "gpus-per-socket")
_PLACES = ("nodelist", "exclude")
_SHAPE = ("constraint", "sockets-per-node", "cores-per-socket", "threads-per-core", "tmp")
_MOST_KINDS = 4  # of hosts in a sentence
# Of Ray's own processes (2.60). Below it Slurm ends them where it holds jobs to their memory.
_HEAD_MB, _WORKER_MB = 600, 300


def compared(words: str, options: Mapping[str, Any], partitions: Sequence[Partition]) -> str:
    """What Slurm's refusal (``words``) is about: the option and value, and what there is.

    A sentence to append to the words, or nothing where the listing does not tell.
    """
    asked_in = asked_partitions(options, partitions)
    hosts = [group for partition in asked_in for group in partition.hosts]
    if not hosts:
        return ""
    where = f"partition {', '.join(partition.name for partition in asked_in)}"
    lower = words.lower()
    if "feature" in lower:
        names = sorted({feature for group in hosts for feature in group.features})
        there = f"features of the hosts of {where}: {', '.join(names) or 'none'}"
        return _sentence(("constraint",), options, there)
    if "node name" in lower:
        lists = ",".join(dict.fromkeys(group.nodelist for group in hosts))
        return _sentence(_PLACES, options, f"hosts of {where}: {lists}")
    if "time limit" in lower:
        return _sentence(("time",), options, f"{where} allows {_longest(asked_in)}")
    if "gres" in lower or "node configuration" in lower:
        keys = _too_much(options, hosts) if "gres" not in lower else _GRES
        there = f"{where} has hosts with {_kinds(hosts)}"
        return _sentence(keys, options, there)
    return ""


def time_beyond(options: Mapping[str, Any], partitions: Sequence[Partition]) -> str | None:
    """How the time limit exceeds that of every partition asked for; None if it does not.

    Slurm takes such a job and never starts it (EnforcePartLimits=NO, the default), unless a QOS
    lifts the limit.
    """
    asked_in = asked_partitions(options, partitions)
    limits = [partition.max_time_s for partition in asked_in]
    if "time" not in options or "time-min" in options or not limits or None in limits:
        return None
    wanted_s = requested(options).time_limit_s
    if wanted_s is not None and wanted_s <= max(limit for limit in limits if limit is not None):
        return None
    names = ", ".join(partition.name for partition in asked_in)
    return f"time: {options['time']} is longer than partition {names} allows ({_longest(asked_in)})"


def too_little_memory(options: Mapping[str, Any], *, is_head: bool) -> str | None:
    """A warning where Ray's own processes take more than is asked for."""
    needed_mb = _HEAD_MB if is_head else _WORKER_MB
    memory_mb = requested(options).memory_mb
    if memory_mb is None or memory_mb >= needed_mb:
        return None
    kind = "head" if is_head else "worker"
    return (
        f"{_given(_MEMORY, options)} is too little for a {kind}: Ray's own processes there take "
        f"about {needed_mb} MB, and most sites end what takes more than it asked for (`exit code "
        f"-9`); ask for {'2G' if is_head else '1G'} or more"
    )


def asked_partitions(
    options: Mapping[str, Any], partitions: Sequence[Partition]
) -> list[Partition]:
    """Those a node type may run in; none if one of them is not listed."""
    if "partition" not in options:
        return [partition for partition in partitions if partition.is_default]
    names = str(options["partition"]).split(",")
    found = [partition for partition in partitions if partition.name in names]
    return found if len(found) == len(set(names)) else []


def _too_much(options: Mapping[str, Any], hosts: Sequence[HostGroup]) -> Sequence[str]:
    """The options that no host can satisfy by itself; all that say something of hosts otherwise."""
    asked = requested(options)
    gres = parse_gres(str(options.get("gres", "")))
    if asked.gpus and not any(entry.name == "gpu" for entry in gres):
        gres = [*gres, Gres("gpu", asked.gpu_type, asked.gpus)]
    found: list[str] = []
    if asked.cpus > max(group.cpus for group in hosts):
        found += _CPUS
    if _is_beyond_memory(asked, hosts):
        found += _MEMORY
    if not all(any(_has(group, entry) for group in hosts) for entry in gres):
        found += _GRES
    return found or (*_CPUS, *_MEMORY, *_GRES, *_SHAPE, *_PLACES)


def _is_beyond_memory(asked: Requested, hosts: Sequence[HostGroup]) -> bool:
    # 1 MB is Slurm's way to say that nobody told it.
    most_mb = max(group.memory_mb for group in hosts)
    return asked.memory_mb is not None and most_mb > 1 and asked.memory_mb > most_mb


def _has(group: HostGroup, wanted: Gres) -> bool:
    fitting = [
        gres.count
        for gres in group.gres
        if gres.name == wanted.name and wanted.type in (None, gres.type)
    ]
    return sum(fitting) >= wanted.count


def _kinds(hosts: Sequence[HostGroup]) -> str:
    texts = []
    for group in sorted(hosts, key=lambda group: (group.cpus, group.memory_mb), reverse=True):
        gres = [f"{g.name}:{g.type + ':' if g.type else ''}{g.count}" for g in group.gres]
        memory = [f"{group.memory_mb} MB"] if group.memory_mb > 1 else []
        texts.append(", ".join([f"{group.cpus} CPUs", *memory, *(gres or ["no gres"])]))
    kinds = list(dict.fromkeys(texts))
    more = f"; and {len(kinds) - _MOST_KINDS} kinds more" if len(kinds) > _MOST_KINDS else ""
    return "; or ".join(kinds[:_MOST_KINDS]) + more


def _longest(partitions: Sequence[Partition]) -> str:
    limits = [partition.max_time_s for partition in partitions]
    longest = [limit for limit in limits if limit is not None]
    return time_text(max(longest)) if len(longest) == len(limits) else "any time"


def _sentence(keys: Sequence[str], options: Mapping[str, Any], there: str) -> str:
    given = _given(keys, options)
    return f". {f'Asked for: {given}; ' if given else ''}{there}"


def _given(keys: Sequence[str], options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {options[key]}" for key in keys if key in options)
