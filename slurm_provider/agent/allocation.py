"""What Slurm granted to this job on this host, read from the job's environment (pure).

Ray must see the job's share and not the host: left to itself it detects all the host's memory
and CPUs, and two nodes on one host then promise the same memory twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MB = 1024 * 1024

# What raylet, dashboard agent and runtime-env agent need before any worker starts.
_RAY_OVERHEAD_MB = 400
_OVERHEAD_FRACTION = 0.1
_OBJECT_STORE_FRACTION = 0.3  # as Ray's own default
_SHM_FRACTION = 0.9


@dataclass(frozen=True)
class Allocation:
    """One node's share."""

    job_id: str
    cpus: int
    memory_mb: int
    gpus: int
    host: str
    partition: str
    end_time: float | None  # epoch seconds


def read_allocation(
    environ: Mapping[str, str],
    *,
    host: str,
    host_cpus: int,
    host_memory_mb: int,
    now: float,
    time_limit_s: int | None,
) -> Allocation:
    """The allocation from a batch job's environment; outside a job, the whole host.

    Slurm tells a job its end time only since 23.02; before, it follows from the limit that was
    asked for (``time_limit_s``), if one was. Where Slurm does not manage memory, a node has as
    much of the host's as it has of its CPUs: two nodes must not promise the same.
    """
    end_time = _float(environ.get("SLURM_JOB_END_TIME"))
    if end_time is None and time_limit_s is not None:
        end_time = now + time_limit_s
    cpus = _int(environ.get("SLURM_CPUS_ON_NODE")) or host_cpus
    gpus = _gpus(environ)
    cpu_share = min(1.0, cpus / host_cpus)
    return Allocation(
        job_id=environ.get("SLURM_JOB_ID", ""),
        cpus=cpus,
        memory_mb=_memory_mb(environ, cpus, gpus) or int(host_memory_mb * cpu_share),
        gpus=gpus,
        host=host,
        partition=environ.get("SLURM_JOB_PARTITION", ""),
        end_time=end_time,
    )


def job_started(environ: Mapping[str, str], now: float) -> float:
    """When the job script began, in epoch seconds: what it did before the agent may take minutes.

    ``now`` where there was none.
    """
    return _float(environ.get("RAY_SLURM_STARTED")) or now


def _memory_mb(environ: Mapping[str, str], cpus: int, gpus: int) -> int | None:
    # --mem=0 asks for the whole host and SLURM_MEM_PER_NODE is then the host's memory.
    per_node = _int(environ.get("SLURM_MEM_PER_NODE"))
    if per_node:
        return per_node
    per_cpu = _int(environ.get("SLURM_MEM_PER_CPU"))
    if per_cpu:
        return per_cpu * cpus
    per_gpu = _int(environ.get("SLURM_MEM_PER_GPU"))
    return per_gpu * gpus or None if per_gpu else None


def _gpus(environ: Mapping[str, str]) -> int:
    # The devices a process may use are the truth Ray goes by; SLURM_GPUS_ON_NODE counts them
    # where a site does not set the variable of its GPU vendor.
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"):
        devices = environ.get(name)
        if devices is not None:
            found = [d for d in devices.split(",") if d.strip() and d.strip() != "NoDevFiles"]
            return len(found)
    return _int(environ.get("SLURM_GPUS_ON_NODE")) or 0


def ray_memory(granted_mb: int, shm_free_mb: int | None = None) -> tuple[int, int]:
    """(``--memory``, ``--object-store-memory``) in bytes for a grant.

    Both lie inside the grant, because shared memory counts towards a job's cgroup. The first
    does not depend on the host, so what the YAML declares before a job exists and what the
    node reports agree; a node reporting less than declared makes the autoscaler launch for ever.
    """
    overhead = min(_RAY_OVERHEAD_MB, int(granted_mb * _OVERHEAD_FRACTION))
    store = int(granted_mb * _OBJECT_STORE_FRACTION)
    memory = granted_mb - store - overhead
    if shm_free_mb is not None:
        store = min(store, int(shm_free_mb * _SHM_FRACTION))
    return memory * MB, max(store, 80) * MB  # Ray refuses an object store below 75 MB


def accelerator_type(gres_type: str | None) -> str | None:
    """Ray's name of a GPU type from Slurm's: ``a100`` is ``A100``, ``nvidia_h100_80gb`` ``H100``.

    Site names vary; the part that is a model name is taken, else the whole name in upper case.
    """
    if not gres_type:
        return None
    words = re.split(r"[^A-Za-z0-9]+", gres_type)
    for word in words:
        if re.fullmatch(r"(?i)[a-z]{1,4}\d{1,4}[a-z]{0,2}", word):
            return word.upper()
    return gres_type.upper()


def _int(text: str | None) -> int | None:
    if text is None:
        return None
    match = re.match(r"\d+", text)
    return int(match.group()) if match else None


def _float(text: str | None) -> float | None:
    value = _int(text)
    return float(value) if value is not None else None
