from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest

from dagster_glue.clusters.base import ClusterAccess
from dagster_glue.jobs.client import JobRecord
from dagster_glue.jobs.launch import Launch
from dagster_glue.jobs.link import JobsLink
from dagster_glue.jobs.options import RunOptions
from dagster_glue.jobs.payload import Payload
from dagster_glue.jobs.remains import Remains, remains_of
from dagster_glue.jobs.run_folder import MESSAGES, STATUS, RunFolder
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
    write(folder, STARTED)
    assert remains_of(folder) is None
    write(folder, ended(0)[:-1])  # half a line, as far as can be told
    assert remains_of(folder) is None


def test_only_a_whole_success_of_the_same_code_stands(folder: RunFolder) -> None:
    write(folder, ended(0))
    success = remains_of(folder)
    assert success == Remains("code", 0, has_closed=True)
    assert success.stand_for("code", strict=True)
    assert not success.stand_for("other code", strict=True)

    write(folder, ended(0), messages="")
    silent = remains_of(folder)
    assert silent is not None
    assert not silent.stand_for("code", strict=True)
    assert silent.stand_for("code", strict=False)

    write(folder, ended(0, was_stopped=True))  # by a cancel, or by Slurm
    stopped = remains_of(folder)
    assert stopped is not None
    assert not stopped.stand_for("code", strict=False)

    write(folder, ended(1))
    failed = remains_of(folder)
    assert failed is not None
    assert not failed.stand_for("code", strict=False)


def test_a_success_whose_folder_was_removed_is_not_waited_for(
    folder: RunFolder, tmp_path: Path
) -> None:
    class Cluster:
        cluster_id, directory = "c", None

        def work_dir(self) -> str:
            return str(tmp_path)

        def transport(self) -> LocalTransport:
            return LocalTransport()

    looks: list[None] = []

    def check() -> None:
        looks.append(None)
        assert len(looks) < 3, "it waits"

    cluster: Any = Cluster()
    launch = Launch(
        cast(ClusterAccess, cluster), dg.build_asset_context(), Payload(("true",)), None, {},
        RunOptions(), JobsLink(cluster, print), check,
    )  # fmt: skip
    write(folder, ended(0))
    assert launch._is_complete(JobRecord("job-1", "SUCCEEDED"))
    assert not launch._is_complete(JobRecord("removed", "SUCCEEDED"))
