"""The text of Slurm's configuration files for a sandbox. Pure functions.

Keywords are those of slurm.conf(5), slurmdbd.conf(5), cgroup.conf(5) and gres.conf(5) of 22.05 that
24.11 and 26.05 take, too.
"""

from __future__ import annotations

from typing import Literal

from .layout import (
    CLUSTER_NAME,
    DATABASE,
    EDGE_ADDRESS,
    EDGE_NAME,
    GPU_TYPE,
    SLURMCTLD_PORT,
    SLURMDBD_PORT,
    Paths,
    Shape,
    host_address,
)

CgroupVersion = Literal["v1", "v2"]


def slurm_conf(shape: Shape, paths: Paths) -> str:
    """slurm.conf of the whole sandbox; all daemons and all users read this one file."""
    hosts = f"n[1-{shape.hosts}]"
    return "\n".join(
        [
            f"ClusterName={CLUSTER_NAME}",
            f"SlurmctldHost={EDGE_NAME}({EDGE_ADDRESS})",
            f"SlurmctldPort={SLURMCTLD_PORT}",
            "CommunicationParameters=NoCtldInAddrAny",
            "SlurmUser=root",
            "AuthType=auth/munge",
            f"AuthInfo=socket={paths.munge_socket}",
            f"StateSaveLocation={paths.spool}/slurmctld",
            f"SlurmctldPidFile={paths.spool}/slurmctld.pid",
            f"SlurmdSpoolDir={paths.spool}/%n",
            f"SlurmdPidFile={paths.spool}/%n.pid",
            f"SlurmctldLogFile={paths.logs}/slurmctld.log",
            f"SlurmdLogFile={paths.logs}/slurmd-%n.log",
            "MailProg=/bin/true",
            "MpiDefault=none",
            "",
            "# A host that stops answering is DOWN after 30 s (Slurm's default: 300).",
            "SlurmdTimeout=30",
            "ReturnToService=2",
            "KillWait=5",
            # More CPUs and memory than the machine has are fine here.
            "SlurmdParameters=config_overrides",
            "",
            *_process_tracking(shape),
            "",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            "DefMemPerCPU=500",
            "# Jobs start at once instead of at the next scheduling round.",
            "SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=5,"
            "bf_interval=2,bf_continue",
            "PreemptType=preempt/partition_prio",
            "PreemptMode=CANCEL",
            "# --signal=B:... also warns a batch script that it will be preempted in GraceTime.",
            # 24.11 documents PreemptParameters=send_user_signal instead, which 22.05 refuses, and
            # still honours this.
            "SlurmctldParameters=preempt_send_user_signal",
            "",
            "AccountingStorageType=accounting_storage/slurmdbd",
            f"AccountingStorageHost={EDGE_ADDRESS}",
            f"AccountingStoragePort={SLURMDBD_PORT}",
            f"AccountingStoragePass={paths.munge_socket}",
            "AccountingStorageEnforce=associations,limits,qos",
            *(["AccountingStorageTRES=gres/gpu,gres/gpu:" + GPU_TYPE] if shape.gpus else []),
            "AccountingStoreFlags=job_comment",
            "JobAcctGatherType=jobacct_gather/linux",
            "JobAcctGatherFrequency=task=2",
            "",
            *(["GresTypes=gpu"] if shape.gpus else []),
            *(_node_line(host, shape) for host in shape.host_names),
            "",
            f"PartitionName=DEFAULT Nodes={hosts} State=UP PriorityTier=10 PreemptMode=OFF",
            "PartitionName=compute Default=YES DefaultTime=01:00:00 MaxTime=1-00:00:00",
            "PartitionName=gpu DefaultTime=01:00:00 MaxTime=1-00:00:00",
            "PartitionName=long MaxTime=UNLIMITED",
            "PartitionName=debug DefaultTime=00:05:00 MaxTime=00:05:00",
            "PartitionName=down State=DOWN DefaultTime=01:00:00 MaxTime=1-00:00:00",
            "PartitionName=scavenge State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=10 "
            "DefaultTime=01:00:00 MaxTime=1-00:00:00",
            "",
        ]
    )


def slurmdbd_conf(paths: Paths) -> str:
    """slurmdbd.conf; the database is reached by the socket in MYSQL_UNIX_PORT, so no password."""
    return "\n".join(
        [
            f"DbdHost={EDGE_NAME}",
            f"DbdAddr={EDGE_ADDRESS}",
            f"DbdPort={SLURMDBD_PORT}",
            "SlurmUser=root",
            "AuthType=auth/munge",
            f"AuthInfo=socket={paths.munge_socket}",
            "StorageType=accounting_storage/mysql",
            "StorageHost=localhost",
            "StorageUser=root",
            f"StorageLoc={DATABASE}",
            f"PidFile={paths.spool}/slurmdbd.pid",
            f"LogFile={paths.logs}/slurmdbd.log",
            "",
        ]
    )


def gres_conf(shape: Shape, paths: Paths) -> str:
    """gres.conf: GPUs without GPUs. Slurm wants device files and opens none of them."""
    if not shape.gpus:
        return ""
    files = f"gpu[0-{shape.gpus - 1}]" if shape.gpus > 1 else "gpu0"
    return f"NodeName=n[1-{shape.hosts}] Name=gpu Type={GPU_TYPE} File={paths.devices}/{files}\n"


def cgroup_conf(version: CgroupVersion, *, limits_memory: bool) -> str:
    """cgroup.conf for a machine with that version of cgroups.

    The sandbox runs no systemd per host, so under v2 slurmd must make its own folders
    (IgnoreSystemd). CPUs are never constrained: hosts may have more than the machine.
    """
    lines = [f"CgroupPlugin=cgroup/{version}"]
    if version == "v2":
        lines.append("IgnoreSystemd=yes")
    lines += [
        "ConstrainCores=no",
        "ConstrainDevices=no",
        f"ConstrainRAMSpace={'yes' if limits_memory else 'no'}",
        "ConstrainSwapSpace=no",
    ]
    return "\n".join(lines) + "\n"


def _process_tracking(shape: Shape) -> list[str]:
    if shape.proctrack == "cgroup":
        return ["ProctrackType=proctrack/cgroup", "TaskPlugin=task/cgroup"]
    return ["ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none"]


def _node_line(host: str, shape: Shape) -> str:
    gres = f" Gres=gpu:{GPU_TYPE}:{shape.gpus}" if shape.gpus else ""
    return (
        f"NodeName={host} NodeAddr={host_address(host)} CPUs={shape.cpus} "
        f"Boards=1 SocketsPerBoard=1 CoresPerSocket={shape.cpus} ThreadsPerCore=1 "
        f"RealMemory={shape.memory_mb}{gres} State=UNKNOWN"
    )
