"""What `ray job submit` needs beside the dashboard's address, as a line to copy."""

from __future__ import annotations

import shlex
from os.path import expanduser

from slurm_provider.cluster import Cluster

_SSH_CONFIG = "~/.ssh/config"  # which ssh reads by itself
_DASHBOARD_PORT = 8265  # where `ray dashboard` listens by default


def job_submit_line(cluster: Cluster, port: int = _DASHBOARD_PORT) -> str:
    """The start of the command, for a dashboard forwarded to ``port`` here.

    Behind SSH the token's file is not on this machine, so it is fetched by the same way.
    """
    command = f"ray job submit --address http://127.0.0.1:{port} -- COMMAND"
    if cluster.config.auth != "token":
        return command
    path = shlex.quote(cluster.store.paths.token)
    ssh = cluster.config.ssh
    if ssh is None:
        return f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={path} {command}"
    config = None if ssh.config_path == _SSH_CONFIG else ssh.config_path
    options = {"-F": config, "-J": ssh.jump_host, "-p": ssh.port, "-i": ssh.key_path}
    given = [w for key, value in options.items() if value for w in (key, expanduser(str(value)))]
    if ssh.known_hosts:
        given += ["-o", f"UserKnownHostsFile={expanduser(ssh.known_hosts)}"]
    host = f"{ssh.user}@{ssh.host}" if ssh.user else ssh.host
    fetched = shlex.join(["ssh", *given, host, f"cat {path}"])
    return f'RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$({fetched})" {command}'
