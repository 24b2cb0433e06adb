"""Reading the clusters' directories, on this machine's own disk."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from dagster_glue.clusters.site import jobs_by_cluster, read_folders
from slurm_provider.errors import ClusterError
from slurm_provider.slurm import Job, JobState
from slurm_provider.transport import LocalTransport


def write(path: Path, value: object, age_s: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    then = time.time() - age_s
    os.utime(path, (then, then))


def test_a_session_s_cluster_tells_who_it_is_and_who_wants_it(tmp_path: Path) -> None:
    root = tmp_path / "session-1"
    write(root / "cluster.json", {"uuid": "u1", "name": "session-1"}, age_s=1000)
    write(root / "session.json", {"session": "session", "shape": {}}, age_s=1001)
    write(root / "head.json", {"node_id": "abc-0", "host": "n1"}, age_s=900)
    write(root / "leases" / "k-1.json", {"holder": "train of run r", "ttl_s": 600}, age_s=30)
    write(root / "leases" / "k-2.json", {"holder": "killed", "ttl_s": 600}, age_s=700)
    write(root / "leases" / ".k-3.json.0.tmp", "half")
    write(root / "token", "secret")
    write(root / "nodes" / "abc-0" / "node.json", {"state": "joined"})
    ((folder,), now) = read_folders(LocalTransport(), str(tmp_path))
    assert now == pytest.approx(time.time(), abs=5)
    assert (folder.name, folder.uuid) == ("session-1", "u1")
    assert folder.age_s == pytest.approx(1000, abs=5)
    assert folder.session["session"] == "session"
    assert folder.head is not None and folder.head["host"] == "n1"
    assert not folder.is_closing
    assert [(x.name, x.holder, x.is_alive) for x in folder.leases] == [
        ("k-1", "train of run r", True),
        ("k-2", "killed", False),
    ]
    assert [x.age_s for x in folder.leases] == pytest.approx([30, 700], abs=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["session-1"]  # no clock stays


def test_a_tombstone_and_a_damaged_file_hide_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "a" / "cluster.json", {"uuid": "u1"})
    write(tmp_path / "a" / "closing", "")
    write(tmp_path / "b" / "cluster.json", "{")
    write(tmp_path / "b" / "leases" / "x.json", "")
    one, two = read_folders(LocalTransport(), str(tmp_path))[0]
    assert (one.uuid, one.is_closing) == ("u1", True)
    assert (two.uuid, two.is_closing) == (None, False)
    assert [(x.holder, x.is_alive) for x in two.leases] == [("x", False)]


def test_a_site_without_clusters_has_none(tmp_path: Path) -> None:
    assert read_folders(LocalTransport(), str(tmp_path / "missing")) == ([], 0.0)
    assert read_folders(LocalTransport(), str(tmp_path))[0] == []


def test_a_folder_that_cannot_be_read_is_unknown_and_not_empty(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match="cannot be read"):
        read_folders(LocalTransport(), str(tmp_path / "file"))


def test_only_our_jobs_count_for_a_cluster() -> None:
    def job(name: str) -> Job:
        return Job("1", "1", JobState.RUNNING, "", "p", "n1", 0, 0, None, 60, 1, name)

    names = ["ray:a:head:u1:head:x-0", "ray:a:worker:u1:worker:y", "ray:b:head:u2:head:z-0", "vim"]
    found = jobs_by_cluster(map(job, names))
    assert {uuid: [i.kind for _, i in jobs] for uuid, jobs in found.items()} == {
        "u1": ["head", "worker"],
        "u2": ["head"],
    }
