"""What slurmctld says about the hosts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from .commands import attempt, run_command
from .daemons import slurm_env
from .errors import SandboxError
from .layout import Paths
from .processes import tail, wait_until

_STARTS_JOBS = {"IDLE", "MIXED", "ALLOCATED"}


@dataclass(frozen=True)
class Node:
    """One line of `scontrol -o show node`."""

    name: str
    state: str
    """As Slurm prints it: IDLE, DOWN*, IDLE+DRAIN, ..."""
    slurmd_started: datetime | None
    """When the slurmd that slurmctld knows had started, to the second; None before it registers."""

    @property
    def is_usable(self) -> bool:
        # PLANNED: the backfill scheduler has a pending job in mind for it.
        return self.state.removesuffix("+PLANNED") in _STARTS_JOBS

    @property
    def needs_resume(self) -> bool:
        return not _STARTS_JOBS & set(self.state.rstrip("*").split("+")) or "DRAIN" in self.state


def parse_nodes(text: str) -> dict[str, Node]:
    """Nodes by name from `scontrol -o show node` run with TZ=UTC."""
    nodes = {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S+)", line))
        started = fields["SlurmdStartTime"]
        nodes[fields["NodeName"]] = Node(
            name=fields["NodeName"],
            state=fields["State"],
            slurmd_started=datetime.fromisoformat(started).replace(tzinfo=timezone.utc)
            if started[0].isdigit()
            else None,
        )
    return nodes


def nodes(paths: Paths) -> dict[str, Node]:
    """Raises SandboxError if slurmctld does not answer."""
    text = run_command(["scontrol", "-o", "show", "node"], env=slurm_env(paths))
    return parse_nodes(text)


def report_power_loss(host: str, paths: Paths) -> None:
    """Have slurmctld end or requeue what ran on a host that lost power.

    A host that is back before slurmctld missed it would leave its old jobs RUNNING for ever.
    """
    run_command(
        ["scontrol", "update", f"NodeName={host}", "State=DOWN", "Reason=power loss"],
        env=slurm_env(paths),
    )


def wait_until_usable(
    hosts: Iterable[str], since: datetime, paths: Paths, timeout_s: float = 60
) -> None:
    """Wait until the slurmds started after `since` are known to slurmctld, and hosts take jobs.

    Raises SandboxError, with the log of the first host that is not ready, when the time is over.
    """
    waiting = sorted(hosts)
    # Slurm tells the time in whole seconds.
    since = since.replace(microsecond=0)

    def all_usable() -> bool:
        known = nodes(paths)
        for host in list(waiting):
            node = known[host]
            if node.slurmd_started is None or node.slurmd_started < since:
                return False
            if node.is_usable:
                waiting.remove(host)
            elif node.needs_resume:
                # Refused while slurmctld changes the state by itself; the next round asks again.
                attempt(
                    ["scontrol", "update", f"NodeName={host}", "State=RESUME"],
                    env=slurm_env(paths),
                )
        return not waiting

    try:
        wait_until(all_usable, f"Slurm on {', '.join(waiting)}", timeout_s, poll_s=0.1)
    except SandboxError as problem:
        # Which host's log is of interest is known only now.
        raise SandboxError(f"{problem}{tail(paths.output(f'slurmd-{waiting[0]}'))}") from None
