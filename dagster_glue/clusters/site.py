"""All clusters below a site's base path, by one reading of their directories and one squeue.

Files' ages are told by the file server's own clock, which stamped them.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagster_glue.scripts import shell_script
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.edge import EdgeHead
from slurm_provider.fleet.identity import HEAD, JobIdentity, parse_job_name
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.slurm import Job, SlurmClient
from slurm_provider.transport import Transport

SESSION_FILE = "session.json"
"""In a session's cluster: its shape, and whose it is. Its maker writes it."""

_TIMEOUT_S = 60.0
_CLOCK = ".clock"
_HEARTBEAT_STALE_S = 40.0  # the head's agent writes one every 10 s
_JUST_MADE_S = 40.0  # so long its head may be on its way into the queue


@dataclass(frozen=True)
class LeaseFile:
    """A lease as it lies there; see :mod:`.lease`."""

    name: str
    holder: str
    ttl_s: float
    age_s: float
    """Since it was renewed."""

    @property
    def is_alive(self) -> bool:
        return self.age_s < self.ttl_s


@dataclass(frozen=True)
class ClusterFolder:
    """What a cluster's directory says."""

    name: str
    uuid: str | None
    """None: the cluster was not made, or is being removed."""
    age_s: float
    session: Mapping[str, Any]
    """The content of SESSION_FILE; empty for a cluster of one asset."""
    head: Mapping[str, Any] | None
    """Where Ray's head runs; None while it does not."""
    is_closing: bool
    has_edge_head: bool
    leases: tuple[LeaseFile, ...] = ()


@dataclass(frozen=True)
class Sighting:
    """A cluster as its directory and the queue showed it together."""

    folder: ClusterFolder
    jobs: Sequence[tuple[Job, JobIdentity]]
    edge_lives: bool = False
    now: float = field(default=0.0)
    """Epoch seconds on the file server's clock."""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def heads(self) -> list[Job]:
        return [job for job, identity in self.jobs if identity.kind == HEAD]

    @property
    def is_usable(self) -> bool:
        """Whether its head lives or waits, and will."""
        lives = self.edge_lives or any(job.state.is_live for job in self.heads)
        return lives and not self.folder.is_closing

    @property
    def head_time_left_s(self) -> float | None:
        """None where there is no limit, or the head has not started."""
        ends = [job.end_time for job in self.heads if job.state.is_live
                and not job.state.is_pending and job.time_limit_s is not None]  # fmt: skip
        return min((end - self.now for end in ends if end is not None), default=None)

    @property
    def has_no_head(self) -> bool:
        """Whether the listing shows none that lives or is still ending; see ``is_certain``."""
        return not self.edge_lives and all(job.state.is_terminal for job in self.heads)

    @property
    def is_certain(self) -> bool:
        """Whether an absent head is known to be gone, by this listing alone."""
        return self.folder.uuid is None or bool(self.heads) or self.folder.has_edge_head


def read_site(transport: Transport, slurm: SlurmClient, clusters_dir: str) -> list[Sighting]:
    """All clusters in ``clusters_dir``. Raises ClusterError, SlurmError, TransportError."""
    # In this order a cluster that is being made is seen without jobs, never jobs without a cluster.
    jobs = jobs_by_cluster(slurm.queue())
    folders, now = read_folders(transport, clusters_dir)
    return [
        Sighting(folder, jobs.get(folder.uuid or "", ()), _edge_lives(transport, folder,
                 clusters_dir), now)
        for folder in folders
    ]  # fmt: skip


def read_folders(transport: Transport, clusters_dir: str) -> tuple[list[ClusterFolder], float]:
    """The directories, and the file server's time."""
    done = transport.run(
        ["sh", "-c", shell_script("read_clusters.sh"), "sh", clusters_dir], timeout_s=_TIMEOUT_S
    )
    if done.returncode != 0:
        raise ClusterError(
            f"the clusters in {clusters_dir} on {transport.label} cannot be read (exit code "
            f"{done.returncode}: {done.stderr.strip()[-300:]}); check the folder's rights"
        )
    if not done.stdout.strip():
        return [], 0.0
    try:
        return parse_folders(base64.b64decode(done.stdout))
    except (binascii.Error, tarfile.TarError, ValueError) as error:
        raise ClusterError(
            f"the listing of {clusters_dir} on {transport.label} is unreadable ({error}); try again"
        ) from None


def parse_folders(archive: bytes) -> tuple[list[ClusterFolder], float]:
    """The clusters in an archive of their files, and its clock file's time (pure)."""
    now, found = None, defaultdict[str, dict[str, tuple[float, bytes]]](dict)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            name = member.name.removeprefix("./")
            if name.startswith(_CLOCK):
                now = member.mtime
                continue
            file = members.extractfile(member)
            cluster, _, path = name.partition("/")
            if file is not None:
                found[cluster][path] = (member.mtime, file.read())
    if now is None:
        raise ValueError("it has no time")
    return [_folder(name, files, now) for name, files in sorted(found.items())], now


def jobs_by_cluster(jobs: Iterable[Job]) -> dict[str, list[tuple[Job, JobIdentity]]]:
    """Our jobs by their cluster's uuid (pure)."""
    found = defaultdict[str, list[tuple[Job, JobIdentity]]](list)
    for job in jobs:
        identity = parse_job_name(job.name)
        if identity is not None:
            found[identity.uuid].append((job, identity))
    return found


def head_is_silent(transport: Transport, clusters_dir: str, sighting: Sighting) -> bool:
    """Whether a head that the queue does not show gives no sign of life either.

    The second witness, for a listing that may be short of a job. Raises TransportError.
    """
    folder = sighting.folder
    if folder.age_s < _JUST_MADE_S:
        return False
    if folder.head is None:
        return True
    root = f"{clusters_dir}/{folder.name}"
    report = f"{root}/nodes/{folder.head['node_id']}/node.json"
    done = transport.run(
        ["sh", "-c", shell_script("file_times.sh"), "sh", root, report], timeout_s=_TIMEOUT_S
    )
    times = [float(line) for line in done.stdout.split()]
    return len(times) == 2 and times[0] - times[1] > _HEARTBEAT_STALE_S


def _folder(name: str, files: Mapping[str, tuple[float, bytes]], now: float) -> ClusterFolder:
    identity = _json(files, "cluster.json")
    made = min(mtime for mtime, _ in files.values())
    if "cluster.json" in files:  # written once
        made = files["cluster.json"][0]
    leases = [
        _lease(path.removeprefix("leases/"), now - mtime, _json(files, path) or {})
        for path, (mtime, _) in sorted(files.items())
        if path.startswith("leases/")
    ]
    return ClusterFolder(
        name=name,
        uuid=None if identity is None else str(identity.get("uuid")),
        age_s=now - made,
        session=_json(files, SESSION_FILE) or {},
        head=_json(files, "head.json"),
        is_closing="closing" in files,
        has_edge_head="edge.json" in files,
        leases=tuple(leases),
    )


def _lease(file_name: str, age_s: float, values: Mapping[str, Any]) -> LeaseFile:
    name = file_name.removesuffix(".json")
    return LeaseFile(name, str(values.get("holder", name)), float(values.get("ttl_s", 0)), age_s)


def _json(files: Mapping[str, tuple[float, bytes]], path: str) -> dict[str, Any] | None:
    if path not in files:
        return None
    try:
        value = json.loads(files[path][1])
    except ValueError:
        return None  # damaged; other files and the queue still tell
    return value if isinstance(value, dict) else None


def _edge_lives(transport: Transport, folder: ClusterFolder, clusters_dir: str) -> bool:
    if not folder.has_edge_head or folder.uuid is None:
        return False
    edge = EdgeHead(transport, ClusterStore(transport, f"{clusters_dir}/{folder.name}"))
    place = edge.place()
    return place is not None and edge.is_alive(place)
