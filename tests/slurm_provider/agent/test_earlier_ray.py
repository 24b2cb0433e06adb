from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from slurm_provider.agent import earlier_ray
from slurm_provider.agent import worker as worker_module
from slurm_provider.agent.earlier_ray import SessionLink
from slurm_provider.agent.scratch import make_scratch, remove_scratch

SESSION = "session_1"


@pytest.fixture
def base() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield Path(folder)


def worker(base: Path, name: str, session: str = SESSION) -> Path:
    """The folder of a worker whose Ray runs."""
    folder = Path(make_scratch(name, str(base), {}))
    (folder / session).mkdir()
    (folder / "session_latest").symlink_to(folder / session)
    return folder


def head(base: Path) -> Path:
    return base / f"rs-{os.getuid()}" / "head-0"


def leave(link: SessionLink, folder: Path) -> None:
    link.remove()
    remove_scratch(str(folder))


@pytest.mark.parametrize(
    ("version", "is_one"), [("2.52.0", True), ("2.54.1", True), ("2.55.0", False), ("3.0", False)]
)
def test_only_ray_before_2_55_is_treated_so(
    version: str, is_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    assert earlier_ray.is_installed() is is_one


def test_a_ray_of_another_interpreter_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert not earlier_ray.is_installed()


def test_a_worker_is_given_its_folder_past_rays_command_line() -> None:
    code = """
import sys
from ray._private import node
from slurm_provider.agent import earlier_ray
def told(self, ray_params, **_):
    print("FOLDER", ray_params.temp_dir, ray_params.num_cpus)
    sys.exit(0)
node.Node.__init__ = told
earlier_ray.start_worker(["--address=127.0.0.1:6379", "--temp-dir=/tmp/w1", "--num-cpus=3"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "FOLDER /tmp/w1 3" in done.stdout, done
    assert "ignored" not in done.stdout + done.stderr


def test_a_program_finds_its_hosts_session_at_the_path_of_the_heads(base: Path) -> None:
    one = worker(base, "one-0")
    link = SessionLink(str(head(base)), str(one))
    link.place()
    assert (head(base) / SESSION).resolve() == one / SESSION
    leave(link, one)
    assert list(base.iterdir()) == []


def test_the_link_leads_to_another_worker_when_its_own_leaves_and_goes_with_the_last(
    base: Path,
) -> None:
    one, two = worker(base, "one-0"), worker(base, "two-0")
    other_cluster = worker(base, "a-other-0", session="session_2")
    links = [SessionLink(str(head(base)), str(folder)) for folder in (two, one)]
    for link in links:
        link.place()

    leave(links[1], one)
    assert head(base).readlink() == two
    leave(links[0], two)
    assert not os.path.lexists(head(base))
    assert other_cluster.is_dir()


def test_a_worker_that_was_killed_is_replaced_by_the_next(base: Path) -> None:
    killed, one = worker(base, "killed-0"), worker(base, "one-0")
    SessionLink(str(head(base)), str(killed)).place()
    SessionLink(str(head(base)), str(one)).place()
    assert head(base).readlink() == one


def test_workers_that_leave_at_once_leave_no_link(base: Path) -> None:
    code = """
import sys
from slurm_provider.agent.earlier_ray import SessionLink
from slurm_provider.agent.scratch import remove_scratch
link = SessionLink(sys.argv[1], sys.argv[2])
link.place()
print("placed", flush=True)
sys.stdin.read()
link.remove()
remove_scratch(sys.argv[2])
"""
    leaving = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(head(base)), str(worker(base, f"w-{number}"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for number in range(6)
    ]  # fmt: skip
    try:
        for process in leaving:
            assert process.stdout is not None and process.stdout.readline() == b"placed\n"
        for process in leaving:
            assert process.stdin is not None
            process.stdin.close()
        assert [process.wait(timeout=30) for process in leaving] == [0] * 6
    finally:
        for process in leaving:
            process.kill()
            process.wait()
    assert list(base.iterdir()) == []


def test_on_the_heads_own_host_its_folder_is_left_alone(base: Path) -> None:
    real, one = worker(base, "head-0"), worker(base, "one-0")
    link = SessionLink(str(head(base)), str(one))
    link.place()
    leave(link, one)
    assert real == head(base) and not real.is_symlink() and (real / SESSION).is_dir()


def test_where_there_is_no_place_for_it_the_node_says_so_and_goes_on(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = worker(base, "one-0")
    link = SessionLink(f"{base}/job-7/rs-{os.getuid()}/head-0", str(one))
    link.place()
    assert "No such file or directory; set provider.temp_dir" in capsys.readouterr().out
    leave(link, one)
    assert list(base.iterdir()) == []


def test_a_folder_of_the_users_own_is_not_touched(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base.chmod(0o755)
    SessionLink(str(base / "mine"), str(worker(base, "one-0"))).place()
    assert "not below a folder for Ray's nodes" in capsys.readouterr().out
    assert base.stat().st_mode & 0o777 == 0o755
    assert not (base / "mine").exists()


@pytest.mark.parametrize("joins", [True, False])
def test_a_link_is_taken_over_from_a_worker_at_work_by_one_that_has_joined_only(
    base: Path, joins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, starting = worker(base, "one-0"), worker(base, "two-0")
    SessionLink(str(head(base)), str(at_work)).place()
    led_to = []
    started = threading.Event()
    rounds: list[set[int]] = [set(), {signal.SIGTERM}]

    def wait(_: float) -> set[int]:
        led_to.append(head(base).readlink())
        if joins:
            started.set()
        return rounds.pop(0)

    node = SimpleNamespace(
        signals=SimpleNamespace(wait=wait), component=None,
        spec=SimpleNamespace(values={"signal_lead_s": None}),
        plan=SimpleNamespace(allocation=SimpleNamespace(end_time=None)),
        session_link=SessionLink(str(head(base)), str(starting)),
        report=lambda **_: None, report_memory_kills=lambda: None,
    )  # fmt: skip
    runtime = SimpleNamespace(started=started, exit_code=lambda: None)
    monkeypatch.setattr(worker_module, "find_descendant", lambda *_: None)
    follow: Any = worker_module._follow
    assert follow(node, runtime, {"gcs_address": "x:1"}) == "stopped by Slurm"
    leave(cast(SessionLink, node.session_link), starting)

    assert led_to == [at_work, starting if joins else at_work]
    assert head(base).readlink() == at_work
