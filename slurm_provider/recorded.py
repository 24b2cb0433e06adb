"""A command on a node whose end is proved by a record in the cluster's folder."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from importlib import resources

from slurm_provider.cluster import Cluster
from slurm_provider.command_end import (
    Evidence,
    NodeState,
    Record,
    Unfinished,
    own_exit_code,
    parse_record,
    srun_words,
    unfinished,
)
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.identity import HEAD
from slurm_provider.slurm import SlurmError
from slurm_provider.transport import (
    AuthenticationFailed,
    CommandNotFound,
    CommandTimeout,
    ConnectFailed,
    HostKeyRejected,
    Process,
    TransportError,
)
from slurm_provider.transport.base import ByteReader, ByteWriter

# After the end here: another client of the shared file system may see the record late, and a job
# that is being ended gets its final state once its processes are gone.
_RECORD_WAIT_S = 3.0
_STATE_WAIT_S = 15.0
_LOOK_AGAIN_S = 0.5
_NOT_STARTED = (AuthenticationFailed, CommandNotFound, ConnectFailed, HostKeyRejected)
_NO_ANSWER = (SlurmError, TransportError, ClusterError, OSError)


class RecordedCommand:
    """One command on one node, for one run; :meth:`end` is called once that is over."""

    def __init__(
        self,
        cluster: Cluster,
        node_id: str,
        script: str,
        inside: Callable[[list[str]], list[str]],
    ) -> None:
        """``inside`` makes what runs on the node out of its argv there."""
        self._cluster = cluster
        self._store = cluster.store
        self._node_id = node_id
        self._path = self._store.paths.command(node_id, secrets.token_hex(8))
        self.argv = inside(["bash", "-c", _wrapper(), "command.sh", self._path, script])

    def end(self, passed_on: int, stderr: str = "") -> int:
        """The command's own exit code; ``passed_on`` is the one that came back to this side.

        Raises Unfinished where the record does not prove that it ended by itself.
        """
        words = srun_words(stderr)
        how = f"{self.argv[0]} ended with exit code {passed_on}{f' ({words})' if words else ''}"
        return self._end(how, passed_on)

    def broken(self, error: TransportError) -> Exception:
        """What to raise when the transport raised this: the error itself where it proves that
        nothing was started, Unfinished for others."""
        if isinstance(error, _NOT_STARTED) or not error.transient:
            return error
        try:
            self._end(str(error).partition(";")[0], None)  # the rest says what is unknown
        except Unfinished as unfinished:
            return unfinished
        return error

    def _end(self, how: str, passed_on: int | None) -> int:
        try:
            record, unreadable = self._record(passed_on), ""
        except _NO_ANSWER as error:
            record, unreadable = None, f"the cluster's folder cannot be read now ({error})"
        code = own_exit_code(record, passed_on)
        if code is None:
            unwritable = "" if record is not None or unreadable else self._unwritable()
            evidence = Evidence(record, how, passed_on, unreadable, unwritable)
            raise unfinished(evidence, node_state(self._cluster, self._node_id))
        return code

    def _record(self, passed_on: int | None) -> Record | None:
        """What the file says, which is removed then; waits a moment for an end."""
        deadline = time.monotonic() + _RECORD_WAIT_S
        folder = self._store.paths.node(self._node_id)
        while True:
            record = self._read()
            if (record is not None and record.exit_code is not None) or passed_on is None:
                break
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_AGAIN_S)
            # An NFS client may remember that a file was missing, but opening the folder makes it
            # look again.
            self._store.transport.list_dir(folder)
        if record is not None:
            self._store.transport.remove_tree(self._path)
        return record

    def _read(self) -> Record | None:
        try:
            return parse_record(self._store.transport.read_file(self._path))
        except FileNotFoundError:
            return None

    def _unwritable(self) -> str:
        try:
            return self._store.write_problem(self._store.paths.node(self._node_id)) or ""
        except _NO_ANSWER as error:
            return str(error)


class RecordedProcess:
    """The same for a process with pipes, see :class:`.transport.base.Process`."""

    def __init__(self, process: Process, command: RecordedCommand) -> None:
        self._process = process
        self._command = command

    @property
    def stdin(self) -> ByteWriter:
        return self._process.stdin

    @property
    def stdout(self) -> ByteReader:
        return self._process.stdout

    @property
    def stderr_tail(self) -> str:
        return self._process.stderr_tail

    def wait(self, timeout_s: float | None = None) -> int:
        """The command's own exit code, once; raises Unfinished, too."""
        try:
            code = self._process.wait(timeout_s)
        except CommandTimeout:
            raise  # it goes on running
        except TransportError as error:
            raise self._command.broken(error) from None
        return self._command.end(code, self.stderr_tail)

    def terminate(self) -> None:
        self._process.terminate()


def node_state(cluster: Cluster, node_id: str) -> NodeState:
    """The node as Slurm (or the edge node) describes it now, which is waited for while its job is
    on its way out. Never raises."""
    deadline = time.monotonic() + _STATE_WAIT_S
    try:
        if cluster.store.is_closing():
            return NodeState(f"cluster {cluster.name!r} was taken down", True)
        while True:
            cluster.fleet.refresh()
            node = cluster.fleet.node(node_id)
            if node is None:
                return NodeState(f"Slurm no longer lists node {node_id}", None)
            is_ending = node.job is not None and node.job.state.is_ending
            if node.ended or not is_ending or time.monotonic() > deadline:
                break
            time.sleep(_LOOK_AGAIN_S)
    except _NO_ANSWER as error:
        return NodeState(f"what became of node {node_id} is not known now ({error})", None)
    is_head = node.kind == HEAD
    owner = "the head" if is_head else f"node {node_id}"
    name = f"{owner} on the edge node" if node.on_edge else f"{owner}'s job {node.slurm_id}"
    if node.ended:
        return NodeState(f"{name} ended ({node.ended})", True, is_head)
    if is_ending:
        return NodeState(f"{name} is ending", True, is_head)
    host = f" on {node.job.nodelist}" if node.job is not None and node.job.nodelist else ""
    return NodeState(f"{name} still runs{host}", False, is_head)


@lru_cache(maxsize=1)
def _wrapper() -> str:
    return (resources.files("slurm_provider") / "job_scripts" / "command.sh").read_text()
