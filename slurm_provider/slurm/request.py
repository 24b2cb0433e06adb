"""What a set of sbatch options asks of Slurm for one node, as numbers (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from slurm_provider.slurm.option_values import OptionValue
from slurm_provider.slurm.options import validate
from slurm_provider.slurm.quantities import Gres, parse_gres, parse_memory_mb, parse_time_s


@dataclass(frozen=True)
class Requested:
    """What one node gets at least. None means: the site or the host decides."""

    cpus: int
    memory_mb: int | None
    gpus: int
    gpu_type: str | None
    time_limit_s: int | None
    exclusive: bool
    """The job gets the host's every CPU and GPU, more than ``cpus`` and ``gpus`` may say."""


def requested(options: Mapping[str, object], where: str = "node_config") -> Requested:
    """Read the numbers out of a node's options, validated or not. Raises OptionError."""
    checked = validate(options, where)
    gpus = _gpus(checked)
    gpu_count = sum(gpu.count for gpu in gpus)
    types = {gpu.type for gpu in gpus if gpu.count}
    cpus = _cpus(checked, gpu_count)
    time_limit = checked.get("time")
    return Requested(
        cpus=cpus,
        memory_mb=_memory_mb(checked, cpus, gpu_count),
        gpus=gpu_count,
        gpu_type=types.pop() if len(types) == 1 else None,
        time_limit_s=_whole_minutes_s(str(time_limit)) if time_limit is not None else None,
        exclusive="exclusive" in checked and checked["exclusive"] is True,
    )


def _gpus(options: Mapping[str, OptionValue]) -> list[Gres]:
    # One task on one host, so "per node", "per task" and "of the job" are the same number.
    for key in ("gpus-per-node", "gpus-per-task", "gpus"):
        if key in options:
            return _gpu_list(str(options[key]))
    if "gpus-per-socket" in options:
        sockets = int(options.get("sockets-per-node", 1))
        per_socket = _gpu_list(str(options["gpus-per-socket"]))
        return [Gres(gpu.name, gpu.type, gpu.count * sockets) for gpu in per_socket]
    return [gres for gres in parse_gres(str(options.get("gres", ""))) if gres.name == "gpu"]


def _gpu_list(text: str) -> list[Gres]:
    return parse_gres(",".join(f"gpu:{entry}" for entry in text.split(",")))


def _cpus(options: Mapping[str, OptionValue], gpu_count: int) -> int:
    if "cpus-per-gpu" in options:
        cpus = int(options["cpus-per-gpu"]) * max(gpu_count, 1)
    else:
        cpus = int(options.get("cpus-per-task", 1))
    return max(cpus, int(options.get("mincpus", 1)))


def _memory_mb(options: Mapping[str, OptionValue], cpus: int, gpu_count: int) -> int | None:
    if "mem" in options:
        return parse_memory_mb(str(options["mem"])) or None  # 0 is all memory of the host
    if "mem-per-cpu" in options:
        return parse_memory_mb(str(options["mem-per-cpu"])) * cpus or None
    if "mem-per-gpu" in options:
        return parse_memory_mb(str(options["mem-per-gpu"])) * gpu_count or None
    return None


def _whole_minutes_s(text: str) -> int | None:
    limit_s = parse_time_s(text)
    # "Time resolution is one minute and second values are rounded up to the next minute."
    return None if limit_s is None else -(-limit_s // 60) * 60
