"""The cluster's directory as the provider uses it, here or over SSH."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from posixpath import basename
from typing import Any

from slurm_provider import own_folder
from slurm_provider.agent.tls import new_authority
from slurm_provider.cluster_paths import ClusterPaths, new_token
from slurm_provider.errors import ClusterError, ConfigError
from slurm_provider.fleet.identity import new_cluster_uuid
from slurm_provider.transport import Transport
from slurm_provider.transport.base import removable

_REMOVE_TIMEOUT_S = 600.0
_EPOCH = (1980, 1, 1, 0, 0, 0)  # fixed time stamps: the same code gives the same archive


class ClusterStore:
    """Reads and writes the directory; knows its layout and nothing of Slurm."""

    def __init__(self, transport: Transport, root: str) -> None:
        self.transport = transport
        self.paths = ClusterPaths(root)

    def uuid(self) -> str | None:
        """The cluster's uuid, or None where no such cluster was made."""
        identity = self._read_json(self.paths.identity)
        return None if identity is None else str(identity["uuid"])

    def check_own(self) -> None:
        """Raises ConfigError for a directory that is no cluster's: `ray down` removes it whole."""
        root = self.paths.root
        try:
            removable(root)
        except ValueError:
            raise ConfigError(
                f"provider.cluster_dir {root!r} is a top-level folder, and `ray down` removes the "
                "cluster's folder; name one below it"
            ) from None
        self.check_private()
        foreign = sorted(set(self._list(root)) - self.paths.names)
        if foreign and self.uuid() is None:
            raise ConfigError(
                f"provider.cluster_dir {root!r} holds other files ({', '.join(foreign[:3])}), and "
                "`ray down` removes the cluster's folder; name one that does not exist yet"
            )

    def check_private(self) -> None:
        """Raises ConfigError where somebody else could change or replace what is in the directory,
        or would be able to once it is made."""
        self._insist(own_folder.look(self.transport, self.paths.root, *sorted(self.paths.names)))

    def create(self, cluster_name: str) -> str:
        """Make the directory (0700) and the uuid; existing ones are kept.

        Raises ConfigError as ``check_private``, and ClusterError where it cannot be made."""
        existing = self.uuid()
        made = {basename(path) for path in (self.paths.launches, self.paths.nodes, self.paths.logs)}
        names = sorted(f"{name}/" if name in made else name for name in self.paths.names)
        self._insist(own_folder.make(self.transport, self.paths.root, *names))
        if existing is not None:
            return existing
        uuid = new_cluster_uuid()
        self._write_json(self.paths.identity, {"uuid": uuid, "name": cluster_name})
        return uuid

    def uses_tls(self) -> bool:
        """Whether the head was launched with `provider.tls`."""
        return basename(self.paths.authority) in self._list(self.paths.root)

    def renew_authority(self, with_tls: bool) -> None:
        """For the certificates of a new head and its workers; without TLS there is none."""
        if with_tls:
            self.transport.write_file(self.paths.authority, new_authority(), mode=0o600)
        elif self.uses_tls():
            self.transport.remove_tree(self.paths.authority)

    def renew_token(self) -> None:
        """For a new head. Who listens on the ports of a lost one, where its workers still look for
        it and show their token, gains nothing by that."""
        self.transport.write_file(self.paths.token, new_token().encode(), mode=0o600)

    def token(self) -> str | None:
        try:
            return self.transport.read_file(self.paths.token).decode().strip()
        except FileNotFoundError:
            return None

    def install_code(self) -> str:
        """Put this package on the shared file system; the path of the archive.

        Nodes then run the version that submitted them, and need only Ray in their environment.
        """
        archive, digest = _code_archive()
        path = f"{self.paths.code}/slurm_provider-{digest}.zip"
        if f"slurm_provider-{digest}.zip" in self._list(self.paths.code):
            return path
        scripts = resources.files("slurm_provider") / "job_scripts"
        for name, target in _SCRIPTS.items():
            data = (scripts / name).read_bytes()
            self.transport.write_file(f"{self.paths.code}/{target}", data, mode=0o700)
        self.transport.write_file(path, archive, mode=0o600)
        return path

    @property
    def code_path(self) -> str:
        """Where ``install_code`` puts the archive; nothing is written."""
        return f"{self.paths.code}/slurm_provider-{_code_archive()[1]}.zip"

    @property
    def node_script(self) -> str:
        return f"{self.paths.code}/node.sh"

    @property
    def unpack_script(self) -> str:
        return f"{self.paths.code}/unpack.sh"

    def write_launch(self, launch: str, spec: Mapping[str, Any], activation: str) -> None:
        self.transport.write_file(self.paths.activation(launch), activation.encode(), mode=0o600)
        self._write_json(self.paths.launch(launch), spec)

    def staged(self, target: str) -> str:
        """Where a file mount waits for the nodes that put it in place."""
        return f"{self.paths.mounts}/{hashlib.sha256(target.encode()).hexdigest()[:16]}"

    def close(self) -> None:
        """Set the tombstone: from now on nobody launches, and agents leave."""
        if self.exists():
            self.transport.write_file(self.paths.closing, b"", mode=0o600)

    def is_closing(self) -> bool:
        names = self._list(self.paths.root)
        return not names or "closing" in names

    def exists(self) -> bool:
        return bool(self._list(self.paths.root))

    def take_resume(self) -> bool:
        """True once after the user asked to retry paused node types."""
        if "resume" not in self._list(self.paths.root):
            return False
        self.transport.remove_tree(self.paths.resume)
        return True

    def ask_resume(self) -> None:
        self.transport.write_file(self.paths.resume, b"", mode=0o600)

    def clear(self, *, keep_logs: bool) -> None:
        """Remove the cluster, but not its lock. For who holds that."""
        self._remove(_CLEAR, keep_logs)

    def remove(self, *, keep_logs: bool) -> None:
        """Remove all that there is, the lock last. For who holds it."""
        self._remove(_CLEAR + _END, keep_logs)

    def _remove(self, script: str, keep_logs: bool) -> None:
        removable(self.paths.root)
        kept = "logs" if keep_logs else ""
        done = self.transport.run(
            ["sh", "-c", script, "sh", self.paths.root, kept], timeout_s=_REMOVE_TIMEOUT_S
        )
        if done.returncode != 0:
            root, label = self.paths.root, self.transport.label
            raise ClusterError(f"{root} on {label} cannot be removed: {done.stderr.strip()}")

    def write_problem(self, folder: str = "") -> str | None:
        """Why nothing can be written to the directory now, or to a folder in it (no space left,
        say); else None.

        A copy that is removed at once tells; a directory that is gone is not made anew.
        """
        argv = ["sh", "-c", _TRY_TO_WRITE, "sh", folder or self.paths.root, self.paths.identity]
        done = self.transport.run(argv, timeout_s=60.0)
        lines = done.stderr.strip().splitlines()
        return lines[-1].rpartition(": ")[2] if done.returncode != 0 and lines else None

    def head(self) -> dict[str, Any] | None:
        """Where the head is, as its agent published it. The folder is listed first, as in
        ``report``: who starts a head has just seen that the file was missing."""
        if "head.json" not in self._list(self.paths.root):
            return None
        return self._read_json(self.paths.head)

    def forget_head(self) -> None:
        self.transport.remove_tree(self.paths.head)

    def report(self, node_id: str) -> dict[str, Any] | None:
        """The agent's last report of a node, None before its first.

        The folder is listed first: an NFS client may remember for a minute that a file was
        missing, but opening the folder makes it look again.
        """
        if "node.json" not in self._list(self.paths.node(node_id)):
            return None
        return self._read_json(self.paths.report(node_id))

    def reports(self) -> dict[str, dict[str, Any]]:
        """The last reports of all nodes there ever were, by node id, read by one command."""
        if not self._list(self.paths.nodes):
            return {}
        done = self.transport.run(
            ["find", self.paths.nodes, "-maxdepth", "2", "-name", "node.json",
             "-exec", "cat", "{}", "+"],
            timeout_s=60.0,
        )  # fmt: skip
        # Nodes come and go meanwhile; anything else may have hidden some of them.
        problems = [line for line in done.stderr.splitlines() if "No such file" not in line]
        if done.returncode != 0 and problems:
            raise ClusterError(f"the reports in {self.paths.nodes} cannot be read: {problems[0]}")
        return {str(report["node_id"]): report for report in _json_values(done.stdout)}

    def logged_nodes(self) -> list[str]:
        """Ids of the nodes that have a log."""
        names = self._list(self.paths.logs)
        return [name.removesuffix(".log") for name in names if name.endswith(".log")]

    def tags(self, node_id: str) -> dict[str, str]:
        return self._read_json(self.paths.tags(node_id)) or {}

    def write_tags(self, node_id: str, tags: Mapping[str, str]) -> None:
        self._write_json(self.paths.tags(node_id), dict(tags))

    def autoscaler_state(self) -> dict[str, Any] | None:
        """What the autoscaler holds back, and why."""
        return self._read_json(self.paths.autoscaler)

    def write_autoscaler_state(self, state: Mapping[str, Any]) -> None:
        self._write_json(self.paths.autoscaler, state)

    def log_tail(self, node_id: str, lines: int = 20) -> str:
        """The last lines of a node's log; empty while there is none."""
        try:
            data = self.transport.read_file(self.paths.log(node_id))
        except FileNotFoundError:
            return ""
        return "\n".join(data.decode(errors="replace").splitlines()[-lines:])

    def _insist(self, answer: own_folder.Answer) -> None:
        where = f"provider.cluster_dir {self.paths.root} on {self.transport.label}"
        if answer.problem:
            raise ConfigError(f"{where}: {own_folder.refusal(answer.problem)}")
        if answer.error:
            raise ClusterError(f"{where} cannot be used: {answer.error}")

    def _list(self, path: str) -> list[str]:
        try:
            return self.transport.list_dir(path)
        except FileNotFoundError:
            return []

    def _read_json(self, path: str) -> dict[str, Any] | None:
        try:
            data = self.transport.read_file(path)
        except FileNotFoundError:
            return None
        try:
            value = json.loads(data)
        except ValueError:
            raise ClusterError(
                f"{path} is damaged; remove the cluster with `ray down`, or the file if that fails"
            ) from None
        assert isinstance(value, dict)
        return value

    def _write_json(self, path: str, value: Any) -> None:
        self.transport.write_file(path, json.dumps(value, indent=1).encode(), mode=0o600)


_TRY_TO_WRITE = """
export LC_ALL=C
new=$(mktemp "$1/.try.XXXXXX") || exit
cp "$2" "$new"
code=$?
rm -f "$new"
exit $code
"""
# Identity and tombstone last: what still looks at the folder takes the cluster for one that goes.
_CLEAR = """
cd -- "$1" || exit
find . -mindepth 1 -maxdepth 1 ! -name lock ! -name cluster.json ! -name closing ! -name "$2" \
    -exec rm -rf -- {} + && rm -f -- cluster.json && rm -f -- closing || exit
"""
_END = """
rm -f -- lock && cd / && { [ "$2" ] || rmdir -- "$1"; }
"""
_SCRIPTS = {
    "node.sh": "node.sh",
    "unpack.sh": "unpack.sh",
    "own_folder.sh": "own_folder.sh",
    "ray": "bin/ray",
}


def _json_values(text: str) -> list[dict[str, Any]]:
    """The JSON objects in a text that holds nothing else, one after the other."""
    decoder, values, position = json.JSONDecoder(), [], 0
    while start := text.find("{", position) + 1:
        value, position = decoder.raw_decode(text, start - 1)
        values.append(value)
    return values


@lru_cache(maxsize=1)
def _code_archive() -> tuple[bytes, str]:
    """This package as a runnable zip archive, and a digest of it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        entries = dict(_walk(resources.files("slurm_provider"), "slurm_provider"))
        entries["__main__.py"] = (
            b"import sys\nfrom slurm_provider.agent.main import main\n"
            b"sys.exit(main(sys.argv[1:]))\n"
        )
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), entries[name], zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    return data, hashlib.sha256(data).hexdigest()[:12]


def _walk(folder: Any, prefix: str) -> list[tuple[str, bytes]]:
    found = []
    for entry in folder.iterdir():
        name = f"{prefix}/{entry.name}"
        if entry.is_dir():
            if entry.name != "__pycache__":
                found += _walk(entry, name)
        elif not entry.name.endswith(".pyc"):
            found.append((name, entry.read_bytes()))
    return found
