"""How a Slurm job says which Ray node it is: its name carries everything.

``ray:CLUSTER:TYPE:UUID:KIND:LAUNCH[-INDEX]``. Slurm is the database: any process on any host
finds the cluster's nodes in one ``squeue``, without a file. The name is used rather than the
comment because sites' job_submit plug-ins rewrite comments, and because people read names.

A launch is one request for N nodes of one type. As an array job its tasks share the name
(no index) and the task id is the index; as single jobs each name carries its index.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

HEAD = "head"
WORKER = "worker"

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_INDEX = re.compile(r"[0-9]{1,9}")
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # no look-alikes: people read these aloud


@dataclass(frozen=True)
class JobIdentity:
    """What a job name says. ``index`` is None for the tasks of an array job."""

    cluster: str
    node_type: str
    uuid: str
    kind: str
    launch: str
    index: int | None = None

    @property
    def job_name(self) -> str:
        suffix = "" if self.index is None else f"-{self.index}"
        return f"ray:{self.cluster}:{self.node_type}:{self.uuid}:{self.kind}:{self.launch}{suffix}"


def parse_job_name(job_name: str) -> JobIdentity | None:
    """The identity in a job name, or None for anybody else's job."""
    parts = job_name.split(":")
    if len(parts) != 6 or parts[0] != "ray" or parts[4] not in (HEAD, WORKER):
        return None
    launch, dash, index = parts[5].partition("-")
    if not launch or (dash and not _INDEX.fullmatch(index)):
        return None
    return JobIdentity(parts[1], parts[2], parts[3], parts[4], launch, int(index) if dash else None)


def node_id(launch: str, index: int) -> str:
    """Ray's instance id of a node; known before Slurm answers, never used twice."""
    return f"{launch}-{index}"


def split_node_id(identifier: str) -> tuple[str, int]:
    launch, _, index = identifier.rpartition("-")
    return launch, int(index)


def new_launch_id() -> str:
    """50 random bits; short because it becomes part of AF_UNIX socket paths (107 bytes)."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def new_cluster_uuid() -> str:
    return secrets.token_hex(6)


def name_error(name: object) -> str | None:
    """Why a cluster or node type name cannot be used, or None.

    Ray exports both unquoted into a shell (``export RAY_NODE_TYPE_NAME=...``), ``:`` separates
    the parts of a job name, and the node type becomes a label's value, which has Kubernetes's form.
    """
    if not isinstance(name, str):
        return "it is not text to YAML, which reads an unquoted on, 010 or 1.10 as something else"
    if _NAME.fullmatch(name):
        return None
    return (
        "use letters, digits, '.', '_' and '-', starting and ending with a letter or digit, "
        "63 at most"
    )
