"""What a running sandbox tells others: addresses and paths for programs, its health for people."""

from __future__ import annotations

from typing import Any

from .commands import attempt
from .daemons import EDGE_DAEMONS, slurm_env
from .errors import SandboxError
from .layout import EDGE_ADDRESS, EDGE_NAME, SSH_PORT, USERS, Paths, host_address
from .nodes import nodes
from .processes import is_running, is_stopped
from .state import State


def info(state: State, paths: Paths) -> dict[str, Any]:
    """The content of `info --json`: everything a program needs to use the sandbox."""
    return {
        "slurm_conf": str(paths.slurm_conf),
        "edge": {"name": EDGE_NAME, "address": EDGE_ADDRESS, "ssh_port": SSH_PORT},
        "users": {
            user: {
                "home": str(paths.home(user)),
                "key_path": str(paths.user_key(user)),
            }
            for user in USERS
        },
        "hosts": {host: host_address(host) for host in state.shape.host_names},
        "env_prefix": state.env_prefix,
        "data_dir": str(paths.data),
        "proctrack": state.shape.proctrack,
        "known_hosts": str(paths.known_hosts),
        "password_file": str(paths.password_file),
    }


def status_lines(state: State, paths: Paths) -> list[str]:
    """One line per daemon and host, for people."""
    lines = [f"{name:<10} {_process_state(state, name)}" for name in EDGE_DAEMONS]
    slurm_states: dict[str, str] = {}
    try:
        # Without both, Slurm's programs try for a minute before they give up.
        if all(_process_state(state, name) == "running" for name in ("munged", "slurmctld")):
            slurm_states = {name: node.state.lower() for name, node in nodes(paths).items()}
    except SandboxError as problem:
        lines.append(f"Slurm does not answer: {problem}")
    for host in state.shape.host_names:
        power = "on" if _process_state(state, f"host-{host}") == "running" else "off"
        lines.append(
            f"{host:<10} {host_address(host):<12} power {power:<4} "
            f"slurmd {_process_state(state, f'slurmd-{host}'):<8} "
            f"Slurm says {slurm_states.get(host, 'nothing')}"
        )
    if slurm_states:
        jobs = attempt(["squeue", "-r", "-h", "-o", "%T"], env=slurm_env(paths)).stdout.split()
        kinds = ", ".join(f"{jobs.count(kind)} {kind.lower()}" for kind in sorted(set(jobs)))
        lines.append(f"{'jobs':<10} {kinds or 'none'}")
    return lines


def _process_state(state: State, name: str) -> str:
    process = state.processes.get(name)
    if process is None:
        return "off"
    if not is_running(process):
        return "dead"
    return "paused" if is_stopped(process) else "running"
