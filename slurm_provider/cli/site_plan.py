"""From what a site offers to the node types of a first cluster YAML (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slurm_provider.errors import ConfigError
from slurm_provider.slurm import Gres, HostGroup, Partition

# A node is a share of a host: several then fit where a whole one would have to wait.
_SHARE = 4
_MAX_CPUS = 8
_MAX_MEMORY_MB = 32 * 1024
_MAX_GPU_CPUS = 16
_MAX_GPU_MEMORY_MB = 128 * 1024
# Ray's own daemons on a head take more than 1 GB.
_HEAD_MEMORY_MB = 2048
_MAX_WORKERS = 10
_HEAD_TIME_S = 24 * 3600
_WORKER_TIME_S = 4 * 3600
# Partitions for tests of a few minutes are no place for a cluster if there is another.
_SHORT_S = 30 * 60


@dataclass(frozen=True)
class NodeSize:
    """What one node asks of Slurm."""

    partition: str
    cpus: int
    memory_mb: int | None
    """None: hosts' memory is not known to Slurm, so jobs should not ask for any."""
    time_s: int
    gres: str | None
    max_workers: int


@dataclass(frozen=True)
class SitePlan:
    """The node types to write."""

    head: NodeSize
    cpu: NodeSize
    gpu: NodeSize | None


def plan_site(partitions: Sequence[Partition], wanted: str | None) -> SitePlan:
    """Choose partitions and sizes; ``wanted`` is the user's choice of partition.

    Raises ConfigError when no partition will do.
    """
    usable = [partition for partition in partitions if partition.is_up and partition.hosts]
    if wanted is not None:
        usable = [partition for partition in usable if partition.name == wanted]
    if not usable:
        raise ConfigError(_no_partition(partitions, wanted))
    roomy = [partition for partition in usable if not _is_short(partition)] or usable
    cpu = min(roomy, key=lambda p: (not p.is_default, bool(_gpus(p)), usable.index(p)))
    gpus = [partition for partition in roomy if _gpus(partition)]
    gpu = min(gpus, key=lambda p: ("gpu" not in p.name.lower(), p is cpu), default=None)
    return SitePlan(
        head=_head_size(cpu), cpu=_cpu_size(cpu), gpu=None if gpu is None else _gpu_size(gpu)
    )


def _head_size(partition: Partition) -> NodeSize:
    host = _smallest(partition.hosts)
    memory_mb = None
    if host.memory_mb > 1:
        memory_mb = min(max(_HEAD_MEMORY_MB, _share(host.memory_mb) // 2), host.memory_mb, 8192)
    return NodeSize(
        partition.name, min(2, _share(host.cpus)), memory_mb, _time_s(partition, _HEAD_TIME_S),
        None, 0,
    )  # fmt: skip


def _cpu_size(partition: Partition) -> NodeSize:
    host = _smallest(partition.hosts)
    cpus = min(_share(host.cpus), _MAX_CPUS)
    memory_mb = None
    if host.memory_mb > 1:  # 1 is Slurm's way to say that nobody told it
        memory_mb = min(_share(host.memory_mb), _MAX_MEMORY_MB)
    fitting = sum(group.count * _fitting(group, cpus, memory_mb) for group in partition.hosts)
    return NodeSize(
        partition.name, cpus, memory_mb, _time_s(partition, _WORKER_TIME_S), None,
        max(1, min(fitting, _MAX_WORKERS)),
    )  # fmt: skip


def _gpu_size(partition: Partition) -> NodeSize:
    groups = [group for group in partition.hosts if _gpu(group) is not None]
    host = _smallest(groups)
    gpu = _gpu(host)
    assert gpu is not None
    cpus = min(max(1, host.cpus // gpu.count), _MAX_GPU_CPUS)
    memory_mb = None
    if host.memory_mb > 1:
        memory_mb = min(host.memory_mb // gpu.count, _MAX_GPU_MEMORY_MB)
    count = sum(group.count * found.count for group in groups if (found := _gpu(group)))
    return NodeSize(
        partition.name, cpus, memory_mb, _time_s(partition, _WORKER_TIME_S),
        f"gpu:{gpu.type}:1" if gpu.type else "gpu:1", min(count, _MAX_WORKERS),
    )  # fmt: skip


def _smallest(groups: Sequence[HostGroup]) -> HostGroup:
    return min(groups, key=lambda group: (group.cpus, group.memory_mb))


def _share(amount: int) -> int:
    return max(1, amount // _SHARE)


def _fitting(group: HostGroup, cpus: int, memory_mb: int | None) -> int:
    by_cpus = group.cpus // cpus
    return by_cpus if memory_mb is None else min(by_cpus, group.memory_mb // memory_mb)


def _time_s(partition: Partition, wanted_s: int) -> int:
    return wanted_s if partition.max_time_s is None else min(wanted_s, partition.max_time_s)


def _is_short(partition: Partition) -> bool:
    return partition.max_time_s is not None and partition.max_time_s < _SHORT_S


def _gpu(group: HostGroup) -> Gres | None:
    return next((gres for gres in group.gres if gres.name == "gpu" and gres.count), None)


def _gpus(partition: Partition) -> list[Gres]:
    return [gpu for group in partition.hosts if (gpu := _gpu(group)) is not None]


def _no_partition(partitions: Sequence[Partition], wanted: str | None) -> str:
    names = [p.name if p.is_up else f"{p.name} (down)" for p in partitions]
    here = f"Partitions here: {', '.join(names) or 'none'}"
    if wanted is None:
        return f"no partition is up with hosts in it. {here}"
    if wanted in {partition.name for partition in partitions}:
        return f"partition {wanted!r} is down or has no hosts. {here}"
    return f"there is no partition {wanted!r}. {here}"
