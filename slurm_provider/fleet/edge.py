"""A head on the edge node itself: started detached, found again, stopped from anywhere.

Slurm knows nothing of it, so its place is noted in the cluster's directory (``edge.json``) and
its life is judged there: by its process on the same host, by its heartbeat from another one
(sites have several login nodes behind one name).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from slurm_provider.errors import ClusterError
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import Transport

HEARTBEAT_STALE_S = 60.0
_TIMEOUT_S = 30.0

# Detached from the session: it must outlive `ray up` and the SSH connection. The log is opened
# here because the agent inherits it.
_START = (
    'mkdir -p "$(dirname "$1")" && cd / && '
    'setsid nohup "$2" "$3" "$4" "$5" > "$1" 2>&1 < /dev/null & echo "$! $(hostname)"'
)
# Our host and clock, and whether the process is still that agent.
_PROBE = (
    'echo "$(hostname) $(date +%s)"; '
    'tr "\\0" " " < "/proc/$1/cmdline" 2> /dev/null | grep -qF -- "$2" && echo alive || echo gone'
)


@dataclass(frozen=True)
class EdgePlace:
    """Where a head on an edge node runs."""

    node_id: str
    node_type: str
    pid: int
    host: str


class EdgeHead:
    """Starting, finding and stopping it, through the transport that reaches the edge node."""

    def __init__(self, transport: Transport, store: ClusterStore) -> None:
        self._transport = transport
        self._store = store

    def start(self, launch: str, node_id: str, node_type: str, code: str) -> None:
        """Start the agent; raises ClusterError when the edge node does not let us."""
        paths = self._store.paths
        done = self._transport.run(
            ["sh", "-c", _START, "sh", paths.log(node_id), self._store.node_script, paths.root,
             code, launch],
            timeout_s=_TIMEOUT_S,
        )  # fmt: skip
        pid, _, host = done.stdout.strip().partition(" ")
        if done.returncode != 0 or not pid.isdigit():
            raise ClusterError(
                f"starting the head on {self._transport.label} failed: {done.stderr.strip()}"
            )
        place = EdgePlace(node_id, node_type, int(pid), host)
        data = json.dumps(asdict(place)).encode()
        self._store.transport.write_file(paths.edge, data, mode=0o600)

    def place(self) -> EdgePlace | None:
        """Where the head was started, or None for a cluster without one on an edge node."""
        try:
            values = json.loads(self._store.transport.read_file(self._store.paths.edge))
        except FileNotFoundError:
            return None
        return EdgePlace(**values)

    def is_alive(self, place: EdgePlace) -> bool:
        """False only on evidence: its process or its heartbeat is gone."""
        report = self._store.report(place.node_id) or {}
        if report.get("state") == "ended":
            return False
        launch = place.node_id.rpartition("-")[0]
        done = self._transport.run(
            ["sh", "-c", _PROBE, "sh", str(place.pid), launch], timeout_s=_TIMEOUT_S
        )
        lines = done.stdout.split("\n")
        host, _, now = lines[0].partition(" ")
        if not now.strip().isdigit():
            raise ClusterError(f"looking for the head on {self._transport.label} gave no answer")
        if host == place.host:
            return lines[1].strip() == "alive"
        heartbeat = report.get("heartbeat")
        return heartbeat is None or float(now) - float(heartbeat) < HEARTBEAT_STALE_S

    def stop(self, place: EdgePlace) -> None:
        """Ask the agent to leave; it looks for this file, so any login node will do."""
        path = self._store.paths.stop(place.node_id)
        self._store.transport.write_file(path, b"", mode=0o600)
