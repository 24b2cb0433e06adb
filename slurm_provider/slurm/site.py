"""What a site's Slurm is like: configuration, partitions, accounts (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from slurm_provider.slurm.errors import SlurmOutputError
from slurm_provider.slurm.quantities import Gres, parse_gres, parse_time_s
from slurm_provider.slurm.queue import FIELD_SEPARATOR, RECORD_END


@dataclass(frozen=True)
class SiteConfig:
    """The part of `scontrol show config` that matters here."""

    cluster_name: str
    version: str
    max_array_size: int
    """Task ids go up to one less; 0 means that job arrays are refused."""
    min_job_age_s: int
    """How long a finished job stays in squeue."""
    kill_wait_s: int
    """Between TERM and KILL at a job's end."""
    select_type: str
    accounting: bool
    """Whether `sacct` can answer."""
    values: Mapping[str, str] = field(repr=False)
    """Every setting, as Slurm prints it."""

    @property
    def max_array_tasks(self) -> int:
        """How many tasks one array may have; 0 where job arrays are refused."""
        most = max(0, self.max_array_size - 1)
        for parameter in self.values.get("SchedulerParameters", "").split(","):
            key, _, value = parameter.strip().partition("=")
            if key == "max_array_tasks":
                most = min(most, _leading_int(value, most))
        return most


@dataclass(frozen=True)
class HostGroup:
    """Hosts of a partition that are alike, in the same state."""

    count: int
    state: str
    cpus: int
    memory_mb: int
    gres: tuple[Gres, ...]
    features: tuple[str, ...]
    nodelist: str


@dataclass(frozen=True)
class Partition:
    """A partition that the user can see."""

    name: str
    is_default: bool
    is_up: bool
    max_time_s: int | None
    """None: no limit."""
    default_time_s: int | None
    """None: not set; then ``max_time_s`` holds."""
    hosts: tuple[HostGroup, ...]

    @property
    def host_count(self) -> int:
        return sum(group.count for group in self.hosts)


@dataclass(frozen=True)
class Association:
    """An account the user may charge, with the QOS allowed there."""

    cluster: str
    account: str
    partition: str
    """Empty: all partitions."""
    qos: tuple[str, ...]
    default_qos: str


@dataclass(frozen=True)
class Accounts:
    """The user's accounts. ``known`` is False where the site has no accounting to ask."""

    known: bool
    default_account: str | None = None
    associations: tuple[Association, ...] = ()


def config_argv(clusters: str | None = None) -> list[str]:
    """The scontrol command for ``parse_config``."""
    return ["scontrol", *_clusters(clusters), "show", "config"]


def parse_config(text: str) -> SiteConfig:
    """Read `scontrol show config`. Raises SlurmOutputError."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(" = ")
        if not separator:
            key, separator, value = line.partition(" =")
        if separator:
            values.setdefault(key.strip(), value.strip())
    missing = [key for key in ("ClusterName", "SLURM_VERSION", "MaxArraySize") if key not in values]
    if missing:
        raise SlurmOutputError(f"scontrol show config: no {missing[0]} in its output")
    return SiteConfig(
        cluster_name=values["ClusterName"],
        version=values["SLURM_VERSION"],
        max_array_size=_leading_int(values["MaxArraySize"], 0),
        min_job_age_s=_leading_int(values.get("MinJobAge", ""), 300),
        kill_wait_s=_leading_int(values.get("KillWait", ""), 30),
        select_type=values.get("SelectType", ""),
        accounting=values.get("AccountingStorageType", "").endswith("slurmdbd"),
        values=values,
    )


def partitions_argv(clusters: str | None = None) -> list[str]:
    """The sinfo command for ``parse_partitions``."""
    return ["sinfo", "--exact", f"--format={_SINFO_FORMAT}", *_clusters(clusters)]


def parse_partitions(text: str) -> list[Partition]:
    """The partitions in Slurm's order. Raises SlurmOutputError."""
    records = text.split(RECORD_END + "\n")
    if not records[0].split("\n")[-1].startswith("PARTITION" + FIELD_SEPARATOR) or records[-1]:
        raise SlurmOutputError(f"sinfo: its output is not a whole listing: {text[:200]!r}")
    partitions: dict[str, Partition] = {}
    for record in records[1:-1]:
        try:
            partition = _partition(record.split(FIELD_SEPARATOR))
        except (ValueError, IndexError) as error:
            raise SlurmOutputError(f"sinfo: a record is unreadable ({error}): {record!r}") from None
        seen = partitions.get(partition.name)
        if seen is not None:
            partition = Partition(**{**vars(seen), "hosts": seen.hosts + partition.hosts})
        partitions[partition.name] = partition
    return list(partitions.values())


def accounts_argv(user: str) -> list[str]:
    """The sacctmgr command for ``parse_accounts``."""
    return [
        "sacctmgr",
        "--noheader",
        "--parsable2",
        "show",
        "user",
        user,
        "withassoc",
        f"format={','.join(_ACCOUNT_FIELDS)}",
    ]


def parse_accounts(text: str) -> Accounts:
    """The user's accounts; none at all is an answer too. Raises SlurmOutputError."""
    default_account: str | None = None
    associations = []
    for line in text.splitlines():
        if not line.strip():
            continue
        values = line.split("|")
        if len(values) != len(_ACCOUNT_FIELDS):
            raise SlurmOutputError(f"sacctmgr: a record is unreadable: {line!r}")
        cluster, default, account, partition, qos, default_qos = values
        default_account = default or default_account
        names = tuple(name for name in qos.split(",") if name)
        associations.append(Association(cluster, account, partition, names, default_qos))
    return Accounts(True, default_account, tuple(associations))


def lifting_qos_argv() -> list[str]:
    """The sacctmgr command for ``parse_lifting_qos``."""
    return ["sacctmgr", "--noheader", "--parsable2", "show", "qos", "format=Name,Flags"]


def parse_lifting_qos(text: str) -> list[str]:
    """The QOS under which jobs may run longer than their partition's limit."""
    rows = [line.partition("|") for line in text.splitlines()]
    return [name for name, _, flags in rows if "PartitionTimeLimit" in flags.split(",")]


def _partition(values: list[str]) -> Partition:
    name, up, max_time, default_time, count, state, cpus, memory, gres, features, nodelist = values
    names = () if features in ("", "(null)") else tuple(features.split(","))
    group = HostGroup(
        count=int(count),
        state=state,
        cpus=_leading_int(cpus, 0),
        memory_mb=_leading_int(memory, 0),
        gres=tuple(parse_gres(gres)),
        features=names,
        nodelist=nodelist,
    )
    return Partition(
        name=name.removesuffix("*"),
        is_default=name.endswith("*"),
        is_up=up.startswith("up"),
        max_time_s=_limit_s(max_time),
        default_time_s=_limit_s(default_time),
        hosts=(group,) if group.count else (),
    )


def _limit_s(text: str) -> int | None:
    return None if text in ("n/a", "NONE", "") else parse_time_s(text)


def _leading_int(text: str, default: int) -> int:
    match = re.match(r"[0-9]{1,18}", text)
    return int(match[0]) if match else default


def _clusters(clusters: str | None) -> list[str]:
    return [] if clusters is None else [f"--clusters={clusters}"]


_SINFO_FORMAT = FIELD_SEPARATOR.join(f"%{letter}" for letter in "PalLDTcmGfN") + RECORD_END
_ACCOUNT_FIELDS = ("Cluster", "DefaultAccount", "Account", "Partition", "QOS", "DefaultQOS")
