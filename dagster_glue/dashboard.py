"""How a person gets to Ray's dashboard of a run's cluster (pure)."""

from __future__ import annotations

import shlex
from typing import Any

import dagster as dg

from slurm_provider.transport import SshSettings

_DEFAULT_POLICY = "strict"
_DEFAULT_CONFIG = "~/.ssh/config"


def dashboard_command(cluster_dir: str, ssh: SshSettings | None) -> str:
    """The command that prints a link to the dashboard, while the cluster runs.

    ``ssh`` is how the edge node is reached; no password is in it. It works wherever that login
    does, so also on another machine than Dagster's.
    """
    argv = ["ray-slurm", "dashboard", "--cluster-dir", cluster_dir]
    if ssh is not None:
        place = f"[{ssh.host}]" if ":" in ssh.host else ssh.host
        user = f"{ssh.user}@" if ssh.user else ""
        port = f":{ssh.port}" if ssh.port else ""
        argv += ["--ssh", f"{user}{place}{port}"]
        jumps = ssh.jumps
        policy = ssh.host_key_policy
        given = {
            "--key-path": ssh.key_path,
            "--jump-host": None if jumps is None else ",".join(jumps) or "none",
            "--known-hosts": ssh.known_hosts,
            "--ssh-config": None if ssh.config_path == _DEFAULT_CONFIG else ssh.config_path,
            "--host-key-policy": None if policy == _DEFAULT_POLICY else policy,
        }
        argv += [word for key, value in given.items() if value for word in (key, value)]
    return shlex.join(argv)


def dashboard_metadata(command: str | None, *, goes_on: bool) -> dict[str, Any]:
    """For the end of a run; ``goes_on`` says that the cluster outlives it."""
    if command is None:
        return {}
    if goes_on:
        return {"ray_dashboard": dg.MetadataValue.md(f"`{command}`")}
    words = "gone with the run's cluster; the command for it is in the run's events"
    return {"ray_dashboard": dg.MetadataValue.text(words)}
