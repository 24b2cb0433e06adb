"""Getting at one node of a running cluster: commands, files, ports, start requests.

Compute hosts are entered through Slurm (``srun --overlap`` into the node's own job), never by
SSH: many sites forbid that, and a step stays inside the job's limits.
"""

from __future__ import annotations

import codecs
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from slurm_provider.cluster import Cluster
from slurm_provider.copying import download, quoted, upload
from slurm_provider.errors import ClusterError, StartFailed
from slurm_provider.excludes import Excludes
from slurm_provider.head_wait import waiting_words
from slurm_provider.pacing import Pace
from slurm_provider.recorded import RecordedCommand, RecordedProcess
from slurm_provider.slurm.step import step_argv
from slurm_provider.transport import Process, TransportError
from slurm_provider.transport.tunnel import Tunnel

_CHUNK = 1 << 20


class NodeAccess:
    """One node, by id. Methods raise ClusterError, SlurmError or TransportError."""

    def __init__(self, cluster: Cluster, node_id: str) -> None:
        self._cluster = cluster
        self._store = cluster.store
        self._paths = cluster.store.paths
        self.node_id = node_id
        self._orders: dict[str, str] = {}  # start command -> the request that has no answer yet

    # -- waiting ---------------------------------------------------------------------------

    def wait_ready(self, show: Callable[[str], None], is_wanted: Callable[[], bool]) -> None:
        """Wait, as long as Slurm's queue does, until the node's agent is at work.

        ``show`` gets the state in words whenever it is looked at; ``is_wanted`` turning False
        ends the wait with a ClusterError.
        """
        pace = Pace()
        while True:
            report = self._store.report(self.node_id)
            # "failed" is a head whose Ray kept ending: it takes a new start command.
            if report is not None and report.get("state") in ("ready", "joined", "failed"):
                return
            if report is not None and report.get("state") == "ended":
                raise self._ended(str(report.get("reason", "")))
            if not is_wanted():
                raise ClusterError(
                    "no longer waiting; the job stays in Slurm's queue: `ray up` again goes on "
                    "waiting for it, `ray down` withdraws it"
                )
            if pace.is_queue_due():
                nodes = {node.node_id: node for node in self._cluster.fleet.nodes()}
                node = nodes.get(self.node_id)
                if node is None:
                    gone = self._cluster.fleet.node(self.node_id)
                    raise self._ended((gone and gone.ended) or "it is gone")
                show(waiting_words(node, nodes.values()))
                pace.asked_queue()
            pace.sleep()

    def still_to_start(self, commands: Sequence[str]) -> Sequence[str]:
        """Without those before the one that has no answer yet: they would stop what it starts, and
        it is not taken a second time."""
        for position, command in enumerate(commands):
            if command in self._orders:
                return commands[position:]
        return commands

    def start_ray(self, command: str, env: Mapping[str, str]) -> None:
        """Hand a start command to the head's supervisor and wait for its answer.

        After a transient error it may be called again, and goes on waiting for the same answer.
        """
        name = f"{time.time_ns():020d}.json"
        # The supervisor takes a request once, so writing it again is harmless.
        path = self._orders.setdefault(command, f"{self._paths.requests(self.node_id)}/{name}")
        request = json.dumps({"command": command, "env": dict(env)}).encode()
        self._store.transport.write_file(path, request, mode=0o600)
        pace = Pace()
        while True:
            answer = self._answer(f"{path}.result")
            if answer is not None:
                del self._orders[command]
                if answer["exit_code"] != 0:
                    words = f"Ray did not start on the head: {self._with_log(answer['message'])}"
                    raise StartFailed(words, self.node_id)
                return
            if pace.is_queue_due():
                if self.node_id not in {n.node_id for n in self._cluster.fleet.nodes()}:
                    raise self._ended("its job ended")
                pace.asked_queue()
            pace.sleep()

    # -- commands --------------------------------------------------------------------------

    # Each raises Unfinished unless the command is proved to have ended by itself, see recorded.py.

    def call(self, command: str, *, tty: bool) -> int:
        """Run a shell command on the node with this terminal's streams; its exit code."""
        recorded = self._recorded(command, tty=tty)
        try:
            code = self._cluster.transport.call(recorded.argv, tty=tty)
        except TransportError as error:
            raise recorded.broken(error) from None
        return recorded.end(code)

    def stream(self, command: str, started: Callable[[Process], None]) -> tuple[int, str]:
        """Run a shell command on the node whose output goes to this standard output; its exit
        code, and what srun itself said. ``started`` gets the process: who ends this program has to
        end that one first."""
        process = self._start(f"exec 2>&1\n{command}")
        started(process)
        process.stdin.close()
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        encoding = sys.stdout.encoding or "utf-8"  # of this terminal, which may know less
        while chunk := process.stdout.read1(_CHUNK):
            sys.stdout.write(decode(chunk).encode(encoding, "replace").decode(encoding))
            sys.stdout.flush()
        return process.wait(), process.stderr_tail.strip()

    def capture(self, command: str, timeout_s: float) -> tuple[int, str]:
        """Run a shell command on the node; exit code and standard output."""
        recorded = self._recorded(command)
        try:
            done = self._cluster.transport.run(recorded.argv, timeout_s=timeout_s)
        except TransportError as error:
            raise recorded.broken(error) from None
        return recorded.end(done.returncode, done.stderr), done.stdout

    def tunnel(self, remote_port: int, local_port: int = 0) -> Tunnel:
        """A local port that leads to a port on the node's loopback."""
        command = f'exec "$RAY_SLURM_PYTHON" "$RAY_SLURM_CODE" relay 127.0.0.1 {remote_port}'
        process = self._cluster.transport.popen(self._argv(command, unbuffered=True))
        return Tunnel(process, listen_port=local_port)

    # -- files -----------------------------------------------------------------------------

    def write_bootstrap_config(self, data: bytes) -> None:
        path = f"{self._paths.node(self.node_id)}/bootstrap.json"
        self._store.transport.write_file(path, data, mode=0o600)

    def upload(self, source: str, target: str, excludes: Excludes) -> None:
        """Copy a file, or a folder's content but for ``excludes``, to ``target`` on the node."""
        upload(self._start, source, target, excludes)

    def download(self, source: str, target: str) -> None:
        """Copy a file, or a folder's content, from the node to ``target`` here."""
        download(self._start, source, target)

    def place_mount(self, source: str, target: str, excludes: Excludes) -> None:
        """Stage a file mount for all nodes and put it in place on this one."""
        staged = self._store.staged(target.rstrip("/"))
        self.upload(source, staged, excludes)
        self._checked(
            f'"$RAY_SLURM_PYTHON" "$RAY_SLURM_CODE" place {shlex.quote(staged)} {quoted(target)}'
        )

    def remove(self, path: str) -> None:
        self._store.transport.remove_tree(path)

    def submit_folder(self, key: str) -> str:
        """A private folder for the script of one ``ray submit``."""
        return f"{self._paths.node(self.node_id)}/submit/{key}"

    def report(self) -> dict[str, Any]:
        """The agent's report; raises ClusterError while there is none."""
        report = self._store.report(self.node_id)
        if report is None:
            raise ClusterError(f"node {self.node_id} has not started yet (`ray-slurm status`)")
        return report

    def has_left(self, timeout_s: float) -> bool:
        """Whether the node's agent has left, or does so in time.

        A worker's job ends with its Ray, and Slurm may kill the very command that asked for it.
        """
        deadline = time.monotonic() + timeout_s
        while self.report().get("state") != "ended":
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    # -- inside ----------------------------------------------------------------------------

    def _argv(self, command: str, *, unbuffered: bool = False) -> list[str]:
        """The command inside the node's job, in the node's environment."""
        return self._inside(["bash", "-c", self._script(command)], unbuffered=unbuffered)

    def _recorded(self, command: str, *, tty: bool = False) -> RecordedCommand:
        """The same for a command whose end matters."""
        inside = partial(self._inside, tty=tty)
        return RecordedCommand(self._cluster, self.node_id, self._script(command), inside)

    def _script(self, command: str) -> str:
        return f"{_SET_UP.format(shell=shlex.quote(self._paths.shell(self.node_id)))}\n{command}"

    def _inside(
        self, inner: Sequence[str], *, tty: bool = False, unbuffered: bool = False
    ) -> list[str]:
        report = self.report()
        if not report.get("job_id"):
            return list(inner)  # a head on the edge node
        return step_argv(
            str(report.get("leader_id") or report["job_id"]),
            inner,
            cpus=int(report["granted_cpus"]),
            component=report.get("component"),
            clusters=self._cluster.slurm_cluster,
            tty=tty,
            unbuffered=unbuffered,
        )

    def _start(self, command: str) -> Process:
        recorded = self._recorded(command)
        return RecordedProcess(self._cluster.transport.popen(recorded.argv), recorded)

    def _checked(self, command: str) -> None:
        code, output = self.capture(command, timeout_s=600)
        if code != 0:
            raise ClusterError(f"on node {self.node_id}: {command}: exit code {code}: {output}")

    def _answer(self, path: str) -> dict[str, Any] | None:
        # Listed first: an NFS client may remember for a minute that a file was missing, but
        # opening the folder makes it look again.
        folder, _, name = path.rpartition("/")
        if name not in self._store.transport.list_dir(folder):
            return None
        return dict(json.loads(self._store.transport.read_file(path)))

    def _ended(self, reason: str) -> StartFailed:
        return StartFailed(f"node {self.node_id} ended: {self._with_log(reason)}", self.node_id)

    def _with_log(self, reason: str) -> str:
        log = self._paths.log(self.node_id)
        tail = self._store.log_tail(self.node_id)
        if tail:
            return f"{reason}\n--- last lines of {log}\n{tail}"
        if self.node_id in self._store.logged_nodes():
            return (
                f"{reason}; it printed nothing to {log}, so look at what runs first: "
                "provider.environment.activate"
            )
        node = self._cluster.fleet.node(self.node_id)
        if node is not None and node.job is not None and node.job.state.is_terminal:
            if not node.job.nodelist:
                return f"{reason}, before its job started; `ray up` submits a new one"
            if self._store.report(self.node_id) is None:
                return (
                    f"{reason}; it left no log in {self._paths.logs}, so perhaps compute hosts do "
                    "not share that folder (provider.cluster_dir): `ray-slurm check` tries it"
                )
        return f"{reason}; there is no log of it in {self._paths.logs}"


# HOME as the working folder: what `ray exec` does everywhere else.
_SET_UP = ". {shell} && cd"
