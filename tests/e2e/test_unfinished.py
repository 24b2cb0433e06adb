"""Commands whose host, job or srun is taken from them: none of them looks like a success."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, config
from tests.e2e.conftest import MakeCluster
from tests.e2e.step import srun_with
from tests.e2e.terminal import Terminal, terminal
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

UNFINISHED = 255
# Ends well when it is asked to end, as a program does that saves its work first.
GRACEFUL = "trap 'exit 0' TERM; touch {}; while :; do sleep 0.1; done"


def attached(cluster: Cluster, shell: Terminal) -> Terminal:
    shell.type("echo $((6*7))\n")
    shell.wait_for("42")
    return shell


def test_a_killed_srun_is_no_end_of_the_command_in_a_terminal_or_without(cluster: Cluster) -> None:
    began = cluster.folder / "began"
    head = cluster.head()
    argv = cluster.ray_argv("exec", f"touch {began}; sleep 60")
    with (
        cluster.background(argv) as process,
        terminal(cluster.argv(*cluster.ray_argv("attach"))) as shell,
    ):
        attached(cluster, shell)
        wait_for(began.exists, 30)
        for words in ((str(began),), (str(cluster.dir), "--pty")):
            os.kill(srun_with(*words), signal.SIGKILL)
        output, _ = process.communicate(timeout=40)
        codes = (process.returncode, shell.wait(40))

    assert codes == (UNFINISHED, UNFINISHED)
    for said in (output, shell.output):
        assert "is not known to have finished: it had started, srun ended with exit code" in said
        assert f"the head's job {head['job_id']} still runs on {head['host']}, so it may" in said
        assert "Traceback" not in said


def test_ctrl_c_ends_the_command_with_its_own_exit_code(cluster: Cluster) -> None:
    ready = cluster.folder / "ready"
    command = f"trap 'exit 9' INT; touch {ready}; while :; do sleep 0.1; done"
    with terminal(cluster.argv(*cluster.ray_argv("exec", command))) as shown:
        wait_for(ready.exists, 30)
        shown.type("\x03")

        assert shown.wait() == 9


def test_an_end_that_cannot_be_noted_is_no_success_and_says_why(cluster: Cluster) -> None:
    folder = cluster.dir / "nodes" / cluster.head()["node_id"]
    folder.chmod(0o500)
    try:
        done = cluster.exec("echo it ran", check=False)
    finally:
        folder.chmod(0o700)

    assert "it ran" in done.output
    assert done.code == UNFINISHED
    assert "could not be noted in the cluster's folder (Permission denied)" in done.output


@pytest.mark.alone
def test_neither_a_cancelled_head_nor_one_without_power_looks_like_success(
    sandbox: RunningSandbox, make_cluster: MakeCluster
) -> None:
    content = config({})
    head_type = content["available_node_types"]["head"]
    head_type["node_config"]["nodelist"] = max(sandbox.info["hosts"])
    cluster = make_cluster("unfinished", content)
    cluster.up()
    head = cluster.head()
    with (
        cluster.background(cluster.ray_argv("exec", GRACEFUL.format("graceful"))) as graceful,
        cluster.background(submit(cluster, "cancelled")) as submitted,
        terminal(cluster.argv(*cluster.ray_argv("attach"))) as shell,
    ):
        attached(cluster, shell)
        home = cluster.folder.parent
        wait_for(lambda: (home / "graceful").exists() and (home / "cancelled").exists(), 40)
        (home / "graceful").unlink()
        (home / "cancelled").unlink()
        sandbox.run("scancel", head["job_id"])
        said = [process.communicate(timeout=60)[0] for process in (graceful, submitted)]
        codes = [graceful.returncode, submitted.returncode, shell.wait(60)]

    assert codes == [UNFINISHED] * 3
    for words in (*said, shell.output):
        assert f"the head's job {head['job_id']} ended (cancelled)" in words
        assert "`ray up` starts a new head" in words
    assert "was ended from outside: it got SIGTERM and ended with exit code 0" in said[0]

    cluster.up()
    head = cluster.head()
    stopping = cluster.ray_argv("exec", "--stop", "touch stopping; sleep 300")
    with (
        cluster.background(submit(cluster, "dark")) as submitted,
        cluster.background(stopping) as stopped,
    ):
        wait_for(lambda: (home / "dark").exists() and (home / "stopping").exists(), 40)
        (home / "dark").unlink()
        (home / "stopping").unlink()
        sandbox.control("kill", head["host"])
        try:
            # Slurm notices after 30 s (SlurmdTimeout).
            said = [process.communicate(timeout=90)[0] for process in (submitted, stopped)]
        finally:
            sandbox.control("start", head["host"])

    assert [submitted.returncode, stopped.returncode] == [UNFINISHED] * 2
    for words in said:
        assert "srun: error: Node failure on" in words
    ended = f"it was running when the head's job {head['job_id']} ended (node fail"
    assert ended in said[1]
    # The other command may have taken the cluster down by now, as it was told to.
    assert ended in said[0] or "was taken down" in said[0]
    assert not cluster.dir.exists()


def submit(cluster: Cluster, mark: str) -> list[str]:
    """A script that makes this file in the home folder and goes on for minutes."""
    script = f"import time\nopen({mark!r}, 'w').close()\ntime.sleep(300)\n"
    Path(cluster.folder / f"{mark}.py").write_text(script)
    return cluster.ray_argv("submit", f"{mark}.py")
