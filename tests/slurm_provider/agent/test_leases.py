from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from slurm_provider.agent.files import is_closing
from slurm_provider.agent.head import Head
from slurm_provider.agent.leases import LeaseWatch, read_leases
from slurm_provider.agent.node import Node
from slurm_provider.cluster_paths import ClusterPaths
from slurm_provider.slurm import SlurmClient


def lease(renewal: int, ttl_s: float = 60) -> str:
    return json.dumps({"ttl_s": ttl_s, "renewal": renewal})


def test_a_cluster_that_nobody_ever_leased_is_unwanted_after_the_timeout() -> None:
    watch = LeaseWatch(100, now=0)
    assert not watch.is_unwanted({}, now=99)
    assert watch.is_unwanted({}, now=100)


def test_a_lease_that_is_renewed_keeps_the_cluster() -> None:
    watch = LeaseWatch(10, now=0)
    for now in range(0, 1000, 50):
        assert not watch.is_unwanted({"a.json": lease(renewal=now)}, now=now)


def test_a_lease_that_is_not_renewed_ends_after_its_time_to_live() -> None:
    watch = LeaseWatch(10, now=0)
    dead = {"a.json": lease(renewal=1)}
    assert not watch.is_unwanted(dead, now=0)
    assert not watch.is_unwanted(dead, now=59)
    assert not watch.is_unwanted(dead, now=68)
    assert watch.is_unwanted(dead, now=70)


def test_another_lease_takes_over_from_one_that_ended() -> None:
    watch = LeaseWatch(0, now=0)
    assert not watch.is_unwanted({"a.json": lease(1)}, now=1)
    assert not watch.is_unwanted({"b.json": lease(1)}, now=50)
    assert not watch.is_unwanted({"b.json": lease(1)}, now=100)
    assert watch.is_unwanted({"b.json": lease(1)}, now=110)


def test_a_lease_that_was_given_back_counts_no_more() -> None:
    watch = LeaseWatch(5, now=0)
    assert not watch.is_unwanted({"a.json": lease(1)}, now=1)
    assert not watch.is_unwanted({}, now=3)
    assert watch.is_unwanted({}, now=6)


def test_what_is_no_lease_keeps_nothing() -> None:
    watch = LeaseWatch(0, now=0)
    assert watch.is_unwanted({"a.json": "half a li", "b.json": "[]", "c.json": "{}"}, now=1)


def test_leases_are_read_from_their_folder_and_a_missing_folder_has_none(tmp_path: Path) -> None:
    assert read_leases(str(tmp_path / "leases")) == {}
    (tmp_path / "a.json").write_text("x")
    (tmp_path / "a.json.new").write_text("y")
    assert read_leases(str(tmp_path)) == {"a.json": "x"}


def test_a_lease_that_comes_together_with_the_tombstone_keeps_the_cluster(tmp_path: Path) -> None:
    paths = ClusterPaths(str(tmp_path))
    spec = SimpleNamespace(node_id="a-0", values={"unleased_timeout_s": 0})
    head = Head(cast(Node, SimpleNamespace(paths=paths, spec=spec)))
    assert head._closes()
    assert Path(paths.closing).exists()

    Path(paths.leases).mkdir()
    (Path(paths.leases) / "holder.json").write_text('{"ttl_s": 60}')
    assert not head._closes()
    assert not Path(paths.closing).exists()


@pytest.mark.parametrize("is_late", [True, False], ids=["a late report", "a file that stays"])
def test_the_tombstone_of_an_abandoned_cluster_goes_last(
    is_late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ClusterPaths(str(tmp_path / "cluster"))
    for folder in (paths.nodes, paths.launches, paths.logs, paths.leases):
        Path(folder).mkdir(parents=True)
    for file in (paths.closing, paths.identity, paths.token):
        Path(file).touch()
    spec = SimpleNamespace(node_id="a-0", values={})
    head = Head(cast(Node, SimpleNamespace(paths=paths, spec=spec)))
    failing, real = iter([True]), shutil.rmtree

    def remove(path: str, *, ignore_errors: bool) -> None:
        assert Path(paths.closing).exists()
        if path != paths.nodes or (is_late and not next(failing, False)):
            real(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", remove)
    if not is_late:
        monkeypatch.setattr("slurm_provider.agent.head._TIDY_S", 0.0)
    head._remove_directory()
    assert Path(paths.root).exists() != is_late
    assert is_late or os.listdir(paths.root) == ["nodes"]


def test_the_folder_of_an_abandoned_cluster_stays_while_slurm_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ClusterPaths(str(tmp_path / "cluster"))
    Path(paths.leases).mkdir(parents=True)
    for file in (paths.closing, paths.identity):
        Path(file).write_text('{"uuid": "0123456789ab"}')
    values = {"bootstrap_config": str(tmp_path / "none")}
    spec = SimpleNamespace(node_id="a-0", values=values)
    node = SimpleNamespace(paths=paths, spec=spec, leave=lambda reason, code: None)
    head = Head(cast(Node, node))
    monkeypatch.setattr("slurm_provider.agent.head._WITHDRAW_AGAIN_S", (0.0, 0.0))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/log\nexit 1\n")
    squeue.chmod(0o755)
    head._abandon()
    assert Path(paths.identity).exists()
    assert (tmp_path / "log").read_text() == "asked\n" * 3

    monkeypatch.setattr(SlurmClient, "queue", lambda client: [])
    head._abandon()
    assert not Path(paths.root).exists()


def test_a_file_system_without_an_answer_is_no_sign_of_a_cluster_taken_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ClusterPaths(str(tmp_path / "cluster"))
    assert is_closing(paths)
    Path(paths.root).mkdir()
    assert not is_closing(paths)
    Path(paths.closing).touch()
    assert is_closing(paths)

    def stale(path: str) -> list[str]:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "listdir", stale)
    assert not is_closing(paths)
