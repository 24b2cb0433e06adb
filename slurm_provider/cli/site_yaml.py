"""The commented cluster YAML that ``ray-slurm init`` writes (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from slurm_provider.cli.site_plan import NodeSize, SitePlan
from slurm_provider.slurm import Accounts, Partition, time_text


@dataclass(frozen=True)
class Login:
    """Where Slurm is, seen from here."""

    host: str
    user: str | None
    port: int | None


def parse_login(text: str) -> Login:
    """``host``, ``user@host`` or ``user@host:port``. Raises ValueError."""
    match = re.fullmatch(r"(?:(?P<user>[^@\s:]+)@)?(?P<host>[^@\s:]+)(?::(?P<port>\d+))?", text)
    if match is None or match["host"].startswith("-"):
        raise ValueError(f"{text!r} is not of the form user@host or user@host:port")
    return Login(match["host"], match["user"], int(match["port"]) if match["port"] else None)


def cluster_yaml(
    cluster_name: str,
    site: str,
    plan: SitePlan,
    partitions: Sequence[Partition],
    accounts: Accounts,
    prefix: str | None,
    login: Login | None,
) -> str:
    """The text of the file; ``site`` describes the site, ``prefix`` is a folder with Ray."""
    workers = plan.cpu.max_workers + (plan.gpu.max_workers if plan.gpu is not None else 0)
    return "\n".join(
        [
            f"# A Ray cluster on {site}. Written by `ray-slurm init`.",
            "# Next: `ray-slurm check` this file, then `ray up` it, `ray down` when done.",
            f"cluster_name: {_scalar(cluster_name)}",
            "# At most this many workers, of all types together.",
            f"max_workers: {workers}",
            "",
            "provider:",
            "    type: external",
            "    module: slurm_provider.SlurmNodeProvider",
            *_login_lines(login),
            *_defaults_lines(plan, accounts),
            *_environment_lines(prefix),
            "",
            *_partition_lines(partitions),
            "head_node_type: head",
            "available_node_types:",
            "    # node_config takes sbatch's own long options; resources left empty are filled in",
            "    # from them. One Ray node is one Slurm job.",
            "    head:",
            *_node_lines(plan.head, plan),
            "        resources: {CPU: 0}  # no tasks on the head",
            "        max_workers: 0",
            "    cpu:",
            *_node_lines(plan.cpu, plan),
            "        resources: {}",
            "        min_workers: 0",
            f"        max_workers: {plan.cpu.max_workers}",
            *_gpu_lines(plan),
            "",
            "# A worker without tasks for this long is given back.",
            "idle_timeout_minutes: 5",
            "# Shell lines to run on nodes before Ray starts. Ray insists on these three keys.",
            "setup_commands: []",
            "head_setup_commands: []",
            "worker_setup_commands: []",
            "",
        ]
    )


def _login_lines(login: Login | None) -> list[str]:
    if login is None:
        return []
    return [
        "    # The edge node with Slurm's commands.",
        "    ssh:",
        f"        host: {_scalar(login.host)}",
        *([f"        user: {_scalar(login.user)}"] if login.user else []),
        *([f"        port: {login.port}"] if login.port else []),
    ]


def _defaults_lines(plan: SitePlan, accounts: Accounts) -> list[str]:
    lines = [
        "    # sbatch options of every node; a node type may override each.",
        "    defaults:",
        f"        partition: {_scalar(plan.cpu.partition)}",
    ]
    names = list(dict.fromkeys(association.account for association in accounts.associations))
    chosen = accounts.default_account or (names[0] if names else None)
    if chosen is not None:
        others = [name for name in names if name != chosen]
        hint = f"  # also yours: {', '.join(others)}" if others else ""
        lines.append(f"        account: {_scalar(chosen)}{hint}")
    qos = list(
        dict.fromkeys(
            name
            for association in accounts.associations
            if association.account == chosen
            for name in association.qos
        )
    )
    if qos:
        lines.append(f"        # qos: {_scalar(qos[0])}  # yours: {', '.join(qos)}")
    lines.append(f'        time: "{time_text(plan.cpu.time_s)}"')
    return lines


def _environment_lines(prefix: str | None) -> list[str]:
    if prefix is not None:
        return [
            "    # How Ray gets on PATH in every job: a folder with bin/ that every host sees.",
            "    environment:",
            f"        prefix: {_scalar(prefix)}",
        ]
    return [
        "    # How Ray gets on PATH in every job: one of these; with none, what a login shell has.",
        "    environment: {}",
        "    #   activate: module load python; source ~/venv/bin/activate",
        "    #   prefix: /shared/envs/ray  # a folder with bin/ that every host sees",
        "    #   archive: /shared/envs/ray.tar.gz  # unpacked to each host's own disk once",
    ]


def _partition_lines(partitions: Sequence[Partition]) -> list[str]:
    lines = ["# Partitions here:"]
    for partition in partitions:
        limit = "no limit" if partition.max_time_s is None else time_text(partition.max_time_s)
        state = "" if partition.is_up else ", down"
        lines.append(
            f"#   {partition.name}: {partition.host_count} hosts, {limit}{state}"
            + "".join(f"; {text}" for text in _host_texts(partition))
        )
    return lines


def _host_texts(partition: Partition) -> list[str]:
    """The kinds of hosts of a partition, each once."""
    texts = []
    for group in partition.hosts:
        gres = [f"{g.name}:{g.type + ':' if g.type else ''}{g.count}" for g in group.gres]
        parts = [f"{group.cpus} CPUs", f"{group.memory_mb} MB", *gres]
        texts.append(", ".join(parts))
    return list(dict.fromkeys(texts))


def _node_lines(size: NodeSize, plan: SitePlan) -> list[str]:
    return [
        "        node_config:",
        *(
            [f"            partition: {_scalar(size.partition)}"]
            if size.partition != plan.cpu.partition
            else []
        ),
        f"            cpus-per-task: {size.cpus}",
        *([f"            mem: {size.memory_mb}M"] if size.memory_mb is not None else []),
        *([f"            gres: {_scalar(size.gres)}"] if size.gres is not None else []),
        *(
            [f'            time: "{time_text(size.time_s)}"']
            if size.time_s != plan.cpu.time_s
            else []
        ),
    ]


def _gpu_lines(plan: SitePlan) -> list[str]:
    if plan.gpu is None:
        return []
    return [
        "    gpu:",
        *_node_lines(plan.gpu, plan),
        "        resources: {}",
        "        min_workers: 0",
        f"        max_workers: {plan.gpu.max_workers}",
    ]


def _scalar(text: str) -> str:
    """The text as YAML: quoted where it would not be read back as itself."""
    if re.fullmatch(r"[A-Za-z/~][A-Za-z0-9/._:@-]*[A-Za-z0-9/._@-]|[A-Za-z]", text) and (
        text.lower() not in _WORDS
    ):
        return text if text != "~" else f'"{text}"'
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_WORDS = frozenset({"y", "n", "yes", "no", "true", "false", "on", "off", "null"})
