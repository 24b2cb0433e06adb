from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm_provider.agent import kept_logs
from slurm_provider.agent.kept_logs import FILE_BYTES, MOST_NODES, LogFile, LogKeeper, chosen
from slurm_provider.cluster_paths import ClusterPaths

MIB = 1 << 20


class Site:
    """A cluster's folder, a node's own disk and a folder of runs."""

    def __init__(self, folder: Path) -> None:
        self.paths = ClusterPaths(str(folder / "cluster"))
        self.runs = folder / "runs"
        self.scratch = folder / "scratch"
        session = self.scratch / "session_1" / "logs"
        (session / "events").mkdir(parents=True)
        (session / "raylet.out").write_text("raylet\n")
        (session / "events" / "event.log").write_text("event\n")
        (session / "empty.err").touch()
        (self.scratch / "session_latest").symlink_to(self.scratch / "session_1")
        os.makedirs(self.paths.logs)
        os.makedirs(self.paths.log_requests)
        Path(self.paths.log("a-0")).write_text("agent\n")

    def run(self, name: str) -> Path:
        """A run that asks for logs."""
        folder = self.runs / name
        folder.mkdir(parents=True)
        (folder / "run.log").touch()
        Path(self.paths.log_requests, name).write_text(str(folder))
        return folder

    def keeper(self, *, is_head: bool = False, node_id: str = "a-0") -> LogKeeper:
        return LogKeeper(self.paths, node_id, is_head=is_head)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_node_that_leaves_while_a_run_goes_on_keeps_its_logs(site: Site) -> None:
    run = site.run("one")
    site.keeper().leave(str(site.scratch))
    kept = run / "ray" / "a-0"
    assert {path.name: path.read_text() for path in kept.iterdir()} == {
        "raylet.out": "raylet\n", "events__event.log": "event\n", "job.log": "agent\n",
    }  # fmt: skip


def test_a_living_node_copies_only_for_runs_that_failed_and_once(site: Site) -> None:
    going_on, failed = site.run("going on"), site.run("failed")
    (failed / "failed").touch()
    keeper = site.keeper()
    keeper.look(str(site.scratch))
    assert not (going_on / "ray").exists()
    assert (failed / "ray" / "a-0" / "raylet.out").exists()

    (failed / "ray" / "a-0" / "raylet.out").unlink()
    keeper.look(str(site.scratch))
    keeper.leave(str(site.scratch))
    assert not (failed / "ray" / "a-0" / "raylet.out").exists()


def test_without_a_request_nothing_is_kept(site: Site) -> None:
    run = site.run("one")
    os.unlink(Path(site.paths.log_requests, "one"))
    site.keeper().leave(str(site.scratch))
    assert not (run / "ray").exists()


def test_a_run_whose_folder_was_removed_is_forgotten(site: Site) -> None:
    Path(site.paths.log_requests, "gone").write_text(str(site.runs / "gone"))
    site.keeper().leave(str(site.scratch))
    assert not (site.runs / "gone").exists()
    site.keeper(is_head=True).look(str(site.scratch))
    assert os.listdir(site.paths.log_requests) == []


def test_a_run_whose_folder_cannot_be_read_now_is_not_forgotten(site: Site) -> None:
    folder = site.runs / "away"
    site.runs.mkdir()
    folder.symlink_to(folder)  # any error but "no such file"
    Path(site.paths.log_requests, "away").write_text(str(folder))
    site.keeper(is_head=True).look(str(site.scratch))
    assert os.listdir(site.paths.log_requests) == ["away"]


def test_a_slow_file_system_does_not_hold_up_a_node_for_each_run_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def copy(*_: object) -> None:
        nonlocal now
        now += 4.0

    monkeypatch.setattr(kept_logs, "_copy_end", copy)
    monkeypatch.setattr("slurm_provider.agent.kept_logs.time.monotonic", lambda: now)
    for number in range(10):
        (site.run(str(number)) / "failed").touch()
    site.keeper().leave(str(site.scratch))
    assert now <= kept_logs.COPY_S + 4.0
    keeper, now = site.keeper(), 0.0
    keeper.look(str(site.scratch))
    assert now <= kept_logs.COPY_S + 4.0
    first = len(keeper._served)
    keeper.look(str(site.scratch))
    assert 0 < first < len(keeper._served)


def test_the_head_withdraws_a_request_that_all_have_served(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.run("one") / "failed").touch()
    head = site.keeper(is_head=True)
    head.look(str(site.scratch))
    head.look(str(site.scratch))
    assert os.listdir(site.paths.log_requests) == ["one"]
    monkeypatch.setattr(kept_logs, "_SERVED_S", -1.0)
    head.look(str(site.scratch))
    assert os.listdir(site.paths.log_requests) == []


def test_a_large_clusters_logs_are_those_of_some_nodes_and_of_the_head(site: Site) -> None:
    run = site.run("one")
    for number in range(MOST_NODES):
        (run / "ray" / f"b-{number}").mkdir(parents=True)
    site.keeper().leave(str(site.scratch))
    assert not (run / "ray" / "a-0").exists()
    site.keeper(is_head=True, node_id="h-0").leave(str(site.scratch))
    assert (run / "ray" / "h-0").exists()


def test_of_a_long_log_the_end_is_kept(site: Site) -> None:
    run = site.run("one")
    log = site.scratch / "session_1" / "logs" / "worker.out"
    with log.open("wb") as file:
        file.truncate(FILE_BYTES + 3)
        file.seek(FILE_BYTES)
        file.write(b"end")
    site.keeper().leave(str(site.scratch))
    kept = (run / "ray" / "a-0" / "worker.out").read_bytes()
    assert kept.startswith(b"[the first 3 bytes are left out]\n")
    assert kept.endswith(b"end")


def test_the_newest_files_are_chosen_within_the_limit() -> None:
    files = [
        LogFile("oldest", 1 * MIB, 1.0),
        LogFile("newest", 4 * MIB, 4.0),
        LogFile("too large", 7 * MIB, 3.0),
        LogFile("empty", 0, 5.0),
    ]
    assert [(file.path, size) for file, size in chosen(files, 6 * MIB)] == [
        ("newest", 4 * MIB), ("oldest", 1 * MIB),
    ]  # fmt: skip
