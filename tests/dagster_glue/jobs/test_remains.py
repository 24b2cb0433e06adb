from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest

from dagster_glue.clusters.base import ClusterAccess, JobsConnection
from dagster_glue.jobs import link as link_module
from dagster_glue.jobs.client import JobRecord, JobUnknown
from dagster_glue.jobs.launch import Launch
from dagster_glue.jobs.link import JobsLink
from dagster_glue.jobs.options import RunOptions
from dagster_glue.jobs.payload import Payload
from dagster_glue.jobs.remains import Remains, remains_of
from dagster_glue.jobs.run_folder import MESSAGES, STATUS, RunFolder
from dagster_glue.jobs.submission import Choice
from slurm_provider.transport import LocalTransport

STARTED = json.dumps({"event": "started"}) + "\n"
CLOSED = json.dumps({"method": "closed", "params": {}}) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(LocalTransport(), str(tmp_path), "job-1")
    made.prepare({}, {}, digest="code")
    return made


def write(folder: RunFolder, status: str, messages: str = CLOSED) -> None:
    Path(folder.path, STATUS).write_text(status)
    Path(folder.path, MESSAGES).write_text(messages)


def ended(exit_code: int, *, was_stopped: bool = False) -> str:
    end = {"event": "ended", "exit_code": exit_code, "was_stopped": was_stopped,
           "signal": None, "oom_kills": 0, "time": 1.0, "sizes": {}}  # fmt: skip
    return STARTED + json.dumps(end) + "\n"


def test_a_payload_that_has_not_ended_leaves_nothing_to_go_on_with(
    folder: RunFolder, tmp_path: Path
) -> None:
    assert remains_of(RunFolder(LocalTransport(), str(tmp_path), "none")) is None
    assert remains_of(folder) is None
    for status in (STARTED, ended(0)[:-1]):  # the latter with half a line, as far as can be told
        write(folder, status)
        unfinished = remains_of(folder)
        assert unfinished == Remains("code", None)
        assert unfinished.choice("code", strict=False) is Choice.IGNORE


def test_only_a_whole_success_of_the_same_code_stands(folder: RunFolder) -> None:
    write(folder, ended(0))
    success = remains_of(folder)
    assert success == Remains("code", 0, has_closed=True)
    assert success.choice("code", strict=True) is Choice.ADOPT
    assert success.choice("other code", strict=True) is Choice.IGNORE

    write(folder, ended(0), messages="")
    silent = remains_of(folder)
    assert silent is not None
    assert silent.choice("code", strict=True) is Choice.IGNORE
    assert silent.choice("code", strict=False) is Choice.ADOPT

    write(folder, ended(0, was_stopped=True))  # by a cancel, or by Slurm
    stopped = remains_of(folder)
    assert stopped is not None
    assert stopped.choice("code", strict=False) is Choice.IGNORE

    write(folder, ended(1))
    failed = remains_of(folder)
    assert failed is not None
    assert failed.choice("code", strict=False) is Choice.IGNORE


class World:
    """A cluster whose Ray knows the given jobs, from its second answer on those of ``late``."""

    cluster_id, directory = "c", None

    def __init__(self, work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._work_dir = work_dir
        self.known: dict[str, JobRecord] = {}
        self.late: dict[str, JobRecord] = {}
        self.looks = 0
        monkeypatch.setattr(link_module, "JobsApi", lambda connection: self)

    def work_dir(self) -> str:
        return str(self._work_dir)

    def transport(self) -> LocalTransport:
        return LocalTransport()

    def open_jobs(self) -> JobsConnection:
        return JobsConnection("http://x", {}, lambda: None, lambda: True)

    def job(self, submission_id: str) -> JobRecord:
        found = self.known.get(submission_id)
        self.known |= self.late
        if found is None:
            raise JobUnknown(submission_id)
        return found

    def launch(self) -> Launch:
        cluster: Any = self
        launch = Launch(
            cast(ClusterAccess, cluster), dg.build_asset_context(), Payload(("true",)), None, {},
            RunOptions(), JobsLink(cluster, print), self._check,
        )  # fmt: skip
        return launch

    def _check(self) -> None:
        self.looks += 1
        assert self.looks < 9, "it waits"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_a_success_whose_folder_was_removed_is_not_waited_for(
    folder: RunFolder, world: World
) -> None:
    launch = world.launch()
    write(folder, ended(0))
    assert launch._is_complete(JobRecord("job-1", "SUCCEEDED"))
    assert not launch._is_complete(JobRecord("removed", "SUCCEEDED"))


def test_what_started_is_ray_s_job_if_it_knows_it_the_next_moment(
    folder: RunFolder, world: World
) -> None:
    write(folder, STARTED)
    running = JobRecord("job-1", "RUNNING")
    world.late = {"job-1": running}
    assert list(world.launch()._found("job-1")) == [("job-1", running)]


def test_a_job_that_ended_with_its_head_keeps_its_folder_and_the_next_is_numbered_on(
    folder: RunFolder, world: World
) -> None:
    write(folder, STARTED)
    later = JobRecord("job-1-2", "RUNNING")
    world.known = {"job-1-2": later}
    found = list(world.launch()._found("job-1"))
    assert found == [("job-1", Remains("code", None)), ("job-1-2", later)]
