"""Several `ray up` at once, and one beside a `ray down`, leave one head or none."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from click import ClickException, Command, Context
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

from slurm_provider import bootstrap
from slurm_provider.fleet import lock
from slurm_provider.fleet.watcher import Watcher
from slurm_provider.node_provider import SlurmNodeProvider
from tests.sandbox_fixture import wait_for
from tests.slurm_provider.fake_slurm.programs import SlurmPrograms

HEADS = {TAG_RAY_NODE_KIND: NODE_KIND_HEAD}


class RayUp:
    """One `ray up`, as far as it has come (ray/autoscaler/_private/commands.py)."""

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        user = {
            "cluster_name": "demo",
            "max_workers": 0,
            "provider": {
                "type": "external",
                "module": "slurm_provider.SlurmNodeProvider",
                "cluster_dir": str(folder),
                "tls": tls,
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


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    argv = ["flock", str(lock), "sh", "-c", "echo; exec cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.read(1)
        yield
        other.communicate()


def test_nobody_launches_while_another_does_and_anybody_may_once_that_one_is_gone(
    slurm: SlurmPrograms, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_HOLD", lock._HOLD.replace("flock -w 10", "flock -w 0"))
    folder.mkdir()
    with holding(folder / "lock"):
        with pytest.raises(ClickException, match="another `ray up` or `ray down` is at work"):
            RayUp(folder).create()
        assert heads(slurm) == []
    RayUp(folder).create()
    assert len(heads(slurm)) == 1


def test_a_lock_whose_folder_was_removed_by_its_holder_is_taken_anew(
    slurm: SlurmPrograms, folder: Path
) -> None:
    folder.mkdir()
    with ThreadPoolExecutor(1) as pool:
        with holding(folder / "lock"):
            up = pool.submit(RayUp(folder).create)
            wait_for(lambda: waits_for(folder / "lock"), 20)
            (folder / "lock").unlink()
            folder.rmdir()
        up.result(20)
    assert len(heads(slurm)) == 1 and (folder / "lock").stat().st_mode & 0o777 == 0o600


def waits_for(path: Path) -> bool:
    """Whether a process waits for the file's lock (proc(5), "->")."""
    inode = f":{path.stat().st_ino}"
    lines = Path("/proc/locks").read_text().splitlines()
    return any(" -> " in line and inode in line for line in lines)


def test_a_file_system_without_locks_is_no_obstacle(
    slurm: SlurmPrograms, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flock = slurm.bin / "flock"
    flock.write_text("#!/bin/sh\necho 'Function not implemented' >&2\nexit 69\n")
    flock.chmod(0o755)
    RayUp(folder).create()
    assert len(heads(slurm)) == 1 and "Function not implemented" in caplog.text


def test_a_folder_with_other_files_is_none_for_a_cluster(
    slurm: SlurmPrograms, folder: Path
) -> None:
    (folder / "logs").mkdir(parents=True)  # what keep_logs leaves is ours
    (folder / "thesis.tex").write_text("")
    with Context(Command("up"), info_name="up"):
        with pytest.raises(ClickException, match=r"other files \(thesis.tex\), and `ray down`"):
            RayUp(folder)
        assert {path.name for path in folder.iterdir()} == {"logs", "thesis.tex"}
        (folder / "thesis.tex").unlink()
        RayUp(folder).create()
    assert len(heads(slurm)) == 1


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


def test_a_ray_up_after_the_last_job_has_a_cluster_that_ray_down_leaves_alone(
    slurm: SlurmPrograms, folder: Path
) -> None:
    RayUp(folder).create()
    down = RayUp(folder)
    down.provider.terminate_nodes(down.seen)
    RayUp(folder).create()
    assert not (folder / "closing").exists()
    down.provider.cleanup_cluster_resources()
    assert heads(slurm) == ["102"]
    assert (folder / "token").exists() and not (folder / "closing").exists()


def test_a_cluster_made_anew_since_it_was_looked_at_gets_no_second_head(
    slurm: SlurmPrograms, folder: Path
) -> None:
    RayUp(folder).create()
    waiting = RayUp(folder)  # for its user's "Confirm"
    waiting.provider.terminate_node(waiting.seen[0])
    down = RayUp(folder)
    down.provider.cleanup_cluster_resources()
    assert not folder.exists()
    RayUp(folder).create()
    with pytest.raises(ClickException, match="has launched the head of cluster 'demo' meanwhile"):
        waiting.create()
    assert heads(slurm) == ["102"]


def test_each_head_has_a_token_of_its_own(slurm: SlurmPrograms, folder: Path) -> None:
    RayUp(folder).create()
    first = (folder / "token").read_text()
    slurm.write_jobs([])  # its host was lost, say
    RayUp(folder).create()
    assert len(first) == 64 and (folder / "token").read_text() not in ("", first)
    assert (folder / "token").stat().st_mode & 0o077 == 0


def test_the_autoscaler_never_ends_its_own_head(
    slurm: SlurmPrograms, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watcher, "start", lambda _: None)  # it would outlive the test
    up = RayUp(folder)
    up.create()
    section = bootstrap.for_head(up.config)["provider"]
    on_head = SlurmNodeProvider(section, "demo")
    on_head._cluster.fleet.tick()
    (head,) = on_head.non_terminated_nodes(HEADS)
    on_head.terminate_nodes([head])
    assert not (folder / "closing").exists() and len(heads(slurm)) == 1


@pytest.mark.parametrize("tls", [False, True])
def test_a_running_head_keeps_to_the_tls_it_was_launched_with(
    slurm: SlurmPrograms, folder: Path, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm_provider.requirements.OLDEST_RAY_WITH_TLS", (2, 52))
    RayUp(folder, tls=tls).create()
    RayUp(folder, tls=tls).prepare()
    with pytest.raises(ClickException, match=f"provider.tls is {str(not tls).lower()}, and"):
        RayUp(folder, tls=not tls).prepare()
