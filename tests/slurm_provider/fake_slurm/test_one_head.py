"""Several `ray up` at once, and one beside a `ray down`, leave one head or none."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click import ClickException
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

from slurm_provider import bootstrap, head_launch
from slurm_provider.node_provider import SlurmNodeProvider
from tests.slurm_provider.fake_slurm.programs import SlurmPrograms

HEADS = {TAG_RAY_NODE_KIND: NODE_KIND_HEAD}


class RayUp:
    """One `ray up`, as far as it has come (ray/autoscaler/_private/commands.py)."""

    def __init__(self, folder: Path) -> None:
        user = {
            "cluster_name": "demo",
            "max_workers": 0,
            "provider": {
                "type": "external",
                "module": "slurm_provider.SlurmNodeProvider",
                "cluster_dir": str(folder),
            },
            "head_node_type": "head",
            "available_node_types": {"head": {"node_config": {}, "resources": {}}},
            **{f"{who}setup_commands": [] for who in ("", "head_", "worker_")},
        }
        self.config = bootstrap.resolve(bootstrap.fillout(user))
        self.provider = SlurmNodeProvider(self.config["provider"], "demo")
        self.seen = self.provider.non_terminated_nodes(HEADS)

    def create(self) -> None:
        options = self.config["available_node_types"]["head"]["node_config"]
        self.provider.create_node(options, {**HEADS, TAG_RAY_USER_NODE_TYPE: "head"}, 1)

    def prepare(self) -> None:
        self.provider.prepare_for_head_node(self.config)


@pytest.fixture
def folder(tmp_path: Path, slurm: SlurmPrograms) -> Path:
    return tmp_path / "cluster"


def heads(slurm: SlurmPrograms) -> list[str]:
    return [job["job_id"] for job in slurm.jobs if job["state"] == "PENDING"]


@pytest.mark.parametrize("was_made", [False, True])
def test_the_second_of_two_ray_up_submits_no_second_head(
    slurm: SlurmPrograms, folder: Path, was_made: bool
) -> None:
    if was_made:
        RayUp(folder).create()
        slurm.write_jobs([])
    first, second = RayUp(folder), RayUp(folder)
    assert first.seen == second.seen == []
    first.create()
    with pytest.raises(ClickException, match="run `ray up` again"):
        second.create()
    assert len(heads(slurm)) == 1


def test_nobody_launches_while_another_does_and_anybody_may_once_that_one_is_gone(
    slurm: SlurmPrograms, folder: Path
) -> None:
    folder.mkdir()
    lock = ["flock", str(folder / "launching"), "sh", "-c", "echo; exec cat"]
    with subprocess.Popen(lock, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.read(1)
        with pytest.raises(ClickException, match="is launching the head of cluster 'demo'"):
            RayUp(folder).create()
        assert heads(slurm) == []
        other.communicate()
    RayUp(folder).create()
    assert len(heads(slurm)) == 1


def test_a_file_system_without_locks_is_no_obstacle(
    slurm: SlurmPrograms, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flock = slurm.bin / "flock"
    flock.write_text("#!/bin/sh\necho 'Function not implemented' >&2\nexit 69\n")
    flock.chmod(0o755)
    RayUp(folder).create()
    assert len(heads(slurm)) == 1 and "Function not implemented" in caplog.text


def test_a_head_that_changed_is_replaced(slurm: SlurmPrograms, folder: Path) -> None:
    RayUp(folder).create()
    again = RayUp(folder)
    again.provider.terminate_node(again.seen[0])
    again.create()
    assert heads(slurm) == ["102"]


def test_a_ray_up_during_ray_down_launches_nothing_and_says_what_to_do(
    slurm: SlurmPrograms, folder: Path
) -> None:
    RayUp(folder).create()
    down = RayUp(folder)
    down.provider.terminate_nodes(down.seen)
    slurm.write_jobs([{**job, "state": "COMPLETING"} for job in slurm.jobs])

    up = RayUp(folder)
    for step in (up.create, up.prepare):
        with pytest.raises(ClickException, match="is being taken down; run `ray up` again when"):
            step()
    assert len(slurm.jobs) == 1 and (folder / "closing").exists()


def test_a_ray_down_that_has_ended_all_jobs_is_let_to_its_end(
    slurm: SlurmPrograms, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RayUp(folder).create()
    down, up = RayUp(folder), RayUp(folder)
    down.provider.terminate_nodes(down.seen)
    meanwhile = SimpleNamespace(
        monotonic=time.monotonic, sleep=lambda _: down.provider.cleanup_cluster_resources()
    )
    monkeypatch.setattr(head_launch, "time", meanwhile)
    up.create()
    assert not (folder / "closing").exists() and (folder / "cluster.json").exists()
    assert len(heads(slurm)) == 1


def test_what_an_interrupted_ray_down_left_does_not_stand_in_the_way(
    slurm: SlurmPrograms, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RayUp(folder).create()
    down = RayUp(folder)
    down.provider.terminate_nodes(down.seen)
    monkeypatch.setattr(head_launch, "_DOWN_ENDS_S", 0.0)
    RayUp(folder).create()
    assert heads(slurm) == ["102"] and not (folder / "closing").exists()


def test_the_autoscaler_never_ends_its_own_head(slurm: SlurmPrograms, folder: Path) -> None:
    up = RayUp(folder)
    up.create()
    section = bootstrap.for_head(up.config)["provider"]
    on_head = SlurmNodeProvider(section, "demo")
    on_head._cluster.fleet.tick()
    (head,) = on_head.non_terminated_nodes(HEADS)
    on_head.terminate_nodes([head])
    assert not (folder / "closing").exists() and len(heads(slurm)) == 1
