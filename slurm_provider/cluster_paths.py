"""Names of the files in a cluster's directory on the shared file system (mode 0700).

It holds what Slurm cannot: the token, the authority for certificates, the launch specifications,
the scripts, the nodes' reports and logs, and the tombstone. One process writes each file, by
temporary file and rename, so a reader sees the old or the new content, never half of it.
"""

from __future__ import annotations

import secrets
from posixpath import basename, join


def new_token() -> str:
    """A token for Ray's authentication: 256 random bits."""
    return secrets.token_hex(32)


def folder_problem(path: str) -> str | None:
    """Why a cluster's folder cannot be at ``path``, or None."""
    if not path.isprintable():
        return "it contains a line break or another character that cannot be printed"
    if ":" in path:
        return "the PATH of every node holds a folder in it, and ':' ends a folder there"
    if "\\" in path:
        return "sbatch takes a backslash in the path of a log for something else"
    return None


class ClusterPaths:
    """Paths below ``root`` as seen by every host of the cluster."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.identity = join(root, "cluster.json")  # uuid and name; written once by `ray up`
        self.token = join(root, "token")  # Ray's authentication token, 0600
        self.authority = join(root, "tls-authority.pem")  # key and certificate, 0600 (agent/tls.py)
        self.closing = join(root, "closing")  # tombstone: the cluster is being taken down
        self.lock = join(root, "lock")  # held by who launches the head or ends the cluster
        self.resume = join(root, "resume")  # the user asks to retry paused node types
        self.head = join(root, "head.json")  # where the head is; written by the head's agent
        self.edge = join(root, "edge.json")  # the head's process, if it runs on an edge node
        self.autoscaler = join(root, "autoscaler.json")  # what the autoscaler holds back, and why
        self.code = join(root, "code")
        self.launches = join(root, "launches")
        self.nodes = join(root, "nodes")
        self.logs = join(root, "logs")
        self.leases = join(root, "leases")  # who wants the cluster, see agent/leases.py
        self.log_requests = join(root, "log-requests")  # of runs, see agent/kept_logs.py
        self.mounts = join(root, "mounts")
        self.names = {basename(path) for path in vars(self).values() if path != root}

    def launch(self, launch: str) -> str:
        """Specification of a launch (JSON), read by its nodes' agents."""
        return join(self.launches, f"{launch}.json")

    def activation(self, launch: str) -> str:
        """Shell lines that put the environment on PATH, sourced by ``node.sh``."""
        return join(self.launches, f"{launch}.activate")

    def node(self, node_id: str) -> str:
        """Folder of one node: its agent's report, its environment, requests to it."""
        return join(self.nodes, node_id)

    def report(self, node_id: str) -> str:
        return join(self.node(node_id), "node.json")

    def tags(self, node_id: str) -> str:
        return join(self.node(node_id), "tags.json")

    def stop(self, node_id: str) -> str:
        """The node's agent leaves when this file appears."""
        return join(self.node(node_id), "stop")

    def requests(self, node_id: str) -> str:
        return join(self.node(node_id), "requests")

    def shell(self, node_id: str) -> str:
        """The node's environment as shell lines (0600): sourced by ``ray exec`` and ``attach``."""
        return join(self.node(node_id), "shell.sh")

    def command(self, node_id: str, key: str) -> str:
        """How a command on the node ended, by the command's key, until its giver has read it."""
        return join(self.node(node_id), f"command-{key}")

    def log(self, node_id: str) -> str:
        """What the job printed: activation, agent and ``ray start``."""
        return join(self.logs, f"{node_id}.log")
