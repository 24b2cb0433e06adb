"""The cluster's directory as an NFS client shows it, which remembers that a name was missing."""

from __future__ import annotations

import json
from pathlib import Path

from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import LocalTransport


class NfsClient(LocalTransport):
    """Looks for a missing name again only after its folder was opened."""

    def __init__(self) -> None:
        super().__init__()
        self._missing: set[str] = set()

    def read_file(self, path: str) -> bytes:
        if path in self._missing:
            raise FileNotFoundError(path)
        try:
            return super().read_file(path)
        except FileNotFoundError:
            self._missing.add(path)
            raise

    def list_dir(self, path: str) -> list[str]:
        self._missing = {name for name in self._missing if str(Path(name).parent) != path}
        return super().list_dir(path)


def test_what_another_host_has_just_written_is_seen(tmp_path: Path) -> None:
    store = ClusterStore(NfsClient(), str(tmp_path))
    assert store.head() is None and store.report("a-0") is None
    for path in (store.paths.head, store.paths.report("a-0")):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps({"node_id": "a-0"}))
    assert store.head() == store.report("a-0") == {"node_id": "a-0"}


def test_a_folder_that_can_be_written_has_no_problem_and_keeps_no_trace(tmp_path: Path) -> None:
    store = ClusterStore(LocalTransport(), str(tmp_path / "cluster"))
    store.create("demo")
    before = sorted((tmp_path / "cluster").iterdir())
    assert store.write_problem() is None
    assert sorted((tmp_path / "cluster").iterdir()) == before


def test_why_a_folder_cannot_be_written_is_told_in_the_systems_words(tmp_path: Path) -> None:
    store = ClusterStore(LocalTransport(), str(tmp_path / "cluster"))
    assert store.write_problem() == "No such file or directory"
    assert not (tmp_path / "cluster").exists()


def test_each_head_gets_a_new_authority_that_only_the_owner_reads(tmp_path: Path) -> None:
    store = ClusterStore(LocalTransport(), str(tmp_path / "cluster"))
    path = Path(store.paths.authority)
    found = set()
    for _ in range(2):
        store.create("demo")
        store.renew_authority(True)
        assert store.uses_tls()
        assert path.stat().st_mode & 0o777 == 0o600
        found.add(path.read_bytes())
    assert len(found) == 2


def test_a_head_without_tls_leaves_no_authority_behind(tmp_path: Path) -> None:
    store = ClusterStore(LocalTransport(), str(tmp_path / "cluster"))
    store.create("demo")
    for with_tls in (True, False):
        store.renew_authority(with_tls)
    assert not store.uses_tls()
    assert not Path(store.paths.authority).exists()
