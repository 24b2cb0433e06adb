"""An srun whose exit code says nothing of the command: it must not look like one that succeeded."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from slurm_provider.access import NodeAccess
from slurm_provider.api import RayCluster
from slurm_provider.cluster import Cluster
from slurm_provider.command_end import Unfinished
from slurm_provider.command_runner import SlurmCommandRunner
from slurm_provider.errors import ClusterError, StartFailed
from slurm_provider.excludes import Excludes
from slurm_provider.head_update import HeadUpdate
from slurm_provider.transport import Completed, LocalTransport, TransportError
from tests.slurm_provider.fake_slurm.programs import Bench

NODE = "headlaunch-0"
# What is behind its options runs as on the node, or does not.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
{how}
"""
RUNS = 'exec "$@"'
NEVER_STARTS = "echo 'srun: error: Node failure on n1' >&2; exit 0"
# The host dies once the command has made the file: nothing there comes to its end.
DIES = """
"$@" & pid=$!
until [ -e "$HOST_DIES" ]; do sleep 0.02; done
kill -KILL $pid $(pgrep -P $pid); wait 2> /dev/null; exit 0
"""
LOSES_THE_OUTPUT = '"$@" > /dev/null; exit 1'


_TOOLS = ("bash", "basename", "cp", "dirname", "kill", "mktemp", "pgrep", "sleep", "tar",
          "touch")  # fmt: skip


@pytest.fixture
def access(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> NodeAccess:
    """The head of a cluster, on a node that is this machine."""
    for tool in _TOOLS:
        (tmp_path / "tools" / tool).symlink_to(f"/usr/bin/{tool}")
    monkeypatch.setattr("slurm_provider.recorded._RECORD_WAIT_S", 0.0)
    node = Path(bench.store.paths.node(NODE))
    node.mkdir(mode=0o700)
    report = {"node_id": NODE, "job_id": "7", "granted_cpus": 1, "state": "joined"}
    (node / "node.json").write_text(json.dumps(report))
    (node / "shell.sh").write_text(f"HOME={node.parent}\n")
    srun(bench, RUNS)
    return NodeAccess(Cluster({"cluster_dir": bench.store.paths.root}, "demo"), NODE)


def srun(bench: Bench, how: str) -> None:
    path = bench.slurm.bin / "srun"
    path.write_text(SRUN.format(how=how))
    path.chmod(0o755)


def end_job(bench: Bench, state: str) -> None:
    bench.slurm.write_jobs([{**bench.slurm.jobs[0], "state": state}])


def records(bench: Bench) -> list[Path]:
    return list(Path(bench.store.paths.node(NODE)).glob("command-*"))


Way = Callable[[NodeAccess, Path], object]
WAYS: dict[str, Way] = {
    "ray exec": lambda access, _: access.call("true", tty=False),
    "ray attach": lambda access, _: access.call("true", tty=True),
    "output that is wanted": lambda access, _: access.capture("true", 20),
    "a set-up command": lambda access, _: access.stream("true", lambda process: None),
    "a file to the node": lambda access, path: access.upload(
        str(path / "file"), f"{path}/there", Excludes()
    ),
    "a file from the node": lambda access, path: access.download(
        str(path / "file"), f"{path}/back"
    ),
    "a folder from the node": lambda access, path: access.download(str(path), f"{path}.back"),
    "a mount": lambda access, path: access.place_mount(
        str(path / "file"), f"{path}/there", Excludes()
    ),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_srun_never_ran_is_no_success_though_srun_ends_with_0(
    access: NodeAccess, bench: Bench, tmp_path: Path, way: Way
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("x")
    srun(bench, NEVER_STARTS)
    end_job(bench, "NODE_FAIL")

    with pytest.raises(Unfinished, match=r"the head's job 7 ended \(node fail\)"):
        way(access, tmp_path / "data")


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_a_command_s_own_exit_code_comes_through_and_leaves_no_record(
    access: NodeAccess, bench: Bench, code: int
) -> None:
    command = f"stat -c %a {bench.store.paths.node(NODE)}/command-*; exit {code}"

    assert access.capture(command, 20) == (code, "600\n")
    assert access.call(f"exit {code}", tty=False) == code
    assert records(bench) == []


def test_a_command_whose_host_died_was_running_when_it_did(
    access: NodeAccess, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "runs"
    monkeypatch.setenv("HOST_DIES", str(mark))
    srun(bench, DIES)
    end_job(bench, "NODE_FAIL")

    with pytest.raises(Unfinished, match=r"^the command did not finish: it was running when ") as e:
        access.call(f"touch {mark}; sleep 60", tty=False)

    assert e.value.node_has_ended
    assert records(bench) == []


def test_a_success_whose_output_was_lost_is_none(access: NodeAccess, bench: Bench) -> None:
    srun(bench, LOSES_THE_OUTPUT)

    with pytest.raises(Unfinished, match="the end of its output may be missing: srun ended with"):
        access.capture("echo precious", 20)


def test_a_job_on_its_way_out_is_asked_for_until_slurm_says_why(
    access: NodeAccess, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    srun(bench, NEVER_STARTS)
    end_job(bench, "COMPLETING")
    monkeypatch.setattr(
        "slurm_provider.recorded.time.sleep", lambda seconds: end_job(bench, "TIMEOUT")
    )

    with pytest.raises(Unfinished, match=r"job 7 ended \(timeout\)"):
        access.capture("true", 20)


def test_a_slurm_without_an_answer_is_said_and_is_no_success(
    access: NodeAccess, bench: Bench
) -> None:
    srun(bench, NEVER_STARTS)
    bench.slurm.answer("squeue", stderr="slurm_load_jobs error: Unable to contact\n", rc=1)

    with pytest.raises(Unfinished, match="what became of node headlaunch-0 is not known now"):
        access.capture("true", 20)


def test_a_missing_srun_is_said_as_it_is(access: NodeAccess, bench: Bench) -> None:
    (bench.slurm.bin / "srun").unlink()

    with pytest.raises(TransportError, match="'srun' not found"):
        access.capture("true", 20)


def test_ray_s_commands_end_with_255(
    access: NodeAccess, bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    srun(bench, NEVER_STARTS)
    end_job(bench, "NODE_FAIL")
    runner = SlurmCommandRunner(Cluster({"cluster_dir": bench.store.paths.root}, "demo"), NODE)
    (tmp_path / "file").write_text("x")

    for ends in (
        lambda: runner.run("true"),
        lambda: runner.run("true", with_output=True),
        lambda: runner.run_rsync_up(str(tmp_path / "file"), "/tmp/x"),
        lambda: runner.run_rsync_down("/tmp/x", str(tmp_path / "back")),
    ):
        with pytest.raises(click.ClickException, match="node fail") as error:
            ends()
        assert error.value.exit_code == 255


def test_a_set_up_command_that_was_cut_short_is_named(access: NodeAccess, bench: Bench) -> None:
    srun(bench, NEVER_STARTS)
    cluster = Cluster({"cluster_dir": bench.store.paths.root}, "demo")

    with pytest.raises(ClusterError, match=r"^the set-up command 'pip install x' did not start"):
        HeadUpdate(cluster, NODE).run(access, "pip install x")


@pytest.mark.parametrize(
    ("state", "kind"), [("NODE_FAIL", StartFailed), ("RUNNING", Unfinished)]
)
def test_a_cluster_from_python_whose_set_up_was_cut_short_says_by_its_error_if_its_head_is_gone(
    access: NodeAccess, bench: Bench, state: str, kind: type[Exception]
) -> None:
    config = {
        "cluster_name": "demo",
        "max_workers": 0,
        "provider": {
            "type": "external",
            "module": "slurm_provider.SlurmNodeProvider",
            "cluster_dir": bench.store.paths.root,
        },
        "head_node_type": "head",
        "setup_commands": [],
        "head_setup_commands": ["pip install x"],
        "worker_setup_commands": [],
        "available_node_types": {"head": {"node_config": {"mem": "1G"}, "max_workers": 0}},
    }
    srun(bench, NEVER_STARTS)
    end_job(bench, state)

    with pytest.raises(kind, match=r"^the set-up command 'pip install x' "):
        RayCluster(config, LocalTransport()).start_ray(NODE)


class CutOff(LocalTransport):
    """The connection breaks under every command on a node."""

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        if argv[0] == "srun":
            raise TransportError(f"the connection to x dropped{REST}", transient=True)
        return super().run(argv, **options)

    def call(self, argv: Sequence[str], *, tty: bool) -> int:
        raise TransportError(f"the connection to x dropped{REST}", transient=True)


REST = " while 'srun' ran; whether it had its effect is unknown"


def test_a_broken_connection_is_an_outage_for_who_tries_again_and_no_success(
    access: NodeAccess, bench: Bench
) -> None:
    cluster = Cluster({"cluster_dir": bench.store.paths.root}, "demo", CutOff())

    with pytest.raises(TransportError) as error:
        NodeAccess(cluster, NODE).capture("true", 20)
    with pytest.raises(click.ClickException) as said:
        SlurmCommandRunner(cluster, NODE).run("true")

    assert error.value.transient
    assert said.value.exit_code == 255
    assert str(said.value.message) == (
        "the command had not started yet: the connection to x dropped while 'srun' ran, and the "
        "head's job 7 still runs on n1, so it may still start; look for it with `ray exec` and "
        "`ps x` before you run it again"
    )


@pytest.mark.parametrize(("state", "stays"), [("NODE_FAIL", False), ("RUNNING", True)])
def test_exec_stop_ends_the_cluster_unless_the_command_may_go_on(
    access: NodeAccess,
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    stays: bool,
) -> None:
    mark = tmp_path / "runs"
    monkeypatch.setenv("HOST_DIES", str(mark))
    srun(bench, DIES)
    end_job(bench, state)
    runner = SlurmCommandRunner(Cluster({"cluster_dir": bench.store.paths.root}, "demo"), NODE)
    stop = "; ray stop; ray teardown ~/ray_bootstrap_config.yaml --yes --workers-only; "

    with pytest.raises(click.ClickException) as error:
        runner.run(f"touch {mark}; sleep 60{stop}sudo shutdown -h now")

    assert error.value.exit_code == 255
    assert bench.store.exists() is stays
