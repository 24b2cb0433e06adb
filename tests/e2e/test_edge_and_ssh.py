"""A head on the edge node; everything over SSH, from a machine without Slurm."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import browser
from tests.e2e.cluster import Cluster, config, node_type
from tests.e2e.conftest import MakeCluster
from tests.e2e.dashboard import Links, dashboard, relays, status_of, submits_a_job
from tests.e2e.step import srun_with, sshd_above
from tests.e2e.terminal import terminal
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

ONE_WORKER = {"cpu": node_type(min_workers=1, max_workers=1)}


def ssh_section(sandbox: RunningSandbox, **changes: object) -> dict[str, object]:
    info = sandbox.info
    return {
        "host": info["edge"]["address"],
        "port": info["edge"]["ssh_port"],
        "user": "user1",
        "key_path": info["users"]["user1"]["key_path"],
        "known_hosts": info["known_hosts"],
        **changes,
    }


@pytest.fixture(scope="module")
def edge(make_module_cluster: MakeCluster) -> Cluster:
    """A cluster with its head on the edge node and one worker."""
    cluster = make_module_cluster("edge", config(ONE_WORKER, head_placement="edge"))
    cluster.up()
    return cluster


def test_a_head_on_the_edge_node_works(edge: Cluster) -> None:
    hosts = edge.ask(_HOSTS)
    done = edge.exec("hostname; exit 5", check=False)

    name = edge.sandbox.info["edge"]["name"]
    assert edge.jobs("head") == {}
    assert edge.head()["host"] == name
    assert hosts[0] == name
    assert hosts[1] in edge.sandbox.info["hosts"]
    assert (done.code, name in done.output) == (5, True)


def test_a_command_killed_on_the_edge_node_with_its_shell_is_no_success(edge: Cluster) -> None:
    done = edge.exec("kill -KILL $PPID", check=False)

    assert done.code == 255
    assert "the head on the edge node still runs" in done.output


def test_a_head_on_the_edge_node_restarts_in_place(edge: Cluster) -> None:
    edge.wait_for_workers(1)
    before = edge.head()

    edge.up()

    assert edge.head()["node_id"] == before["node_id"]
    assert edge.head()["generation"] != before["generation"]


def test_ray_down_from_another_login_node_leaves_nothing(edge: Cluster) -> None:
    # There its process cannot be seen, only its heartbeat.
    edge.sandbox.run("ray", "down", "-y", str(edge.yaml), host="n2", timeout_s=90)
    edge.assert_nothing_is_left()


@pytest.fixture(scope="module")
def far(sandbox: RunningSandbox, make_module_cluster: MakeCluster) -> Iterator[Cluster]:
    """A cluster of user1's that root makes over SSH with strict host keys."""
    content = config(ONE_WORKER, ssh=ssh_section(sandbox))
    cluster = make_module_cluster("ssh", content, shell=None)
    cluster.up()
    yield cluster


def test_ray_exec_over_ssh(far: Cluster) -> None:
    done = far.exec("hostname; id -un; exit 7", check=False)

    assert done.code == 7
    assert {far.head()["host"], "user1"} <= set(done.output.split())


def test_a_broken_connection_is_no_success_though_the_command_goes_on(far: Cluster) -> None:
    mark = far.folder / "mark"
    with far.background(far.ray_argv("exec", f"touch {mark}; sleep 3; touch {mark}.2")) as process:
        wait_for(mark.exists, 30)
        os.kill(sshd_above(srun_with(str(mark))), signal.SIGKILL)
        output, _ = process.communicate(timeout=40)

    assert process.returncode == 255
    assert "it had started, the connection to user1@" in output
    assert f"the head's job {far.head()['job_id']} still runs on" in output
    assert "Traceback" not in output
    wait_for((far.folder / "mark.2").exists)


def test_a_job_grows_a_cluster_over_ssh(far: Cluster) -> None:
    hosts = far.ask(_HOSTS)

    assert hosts[1] in far.sandbox.info["hosts"]


def test_files_go_over_ssh_to_the_heads_own_disk_and_back(far: Cluster) -> None:
    there, host = f"/tmp/{far.name}-up", far.head()["host"]
    source = far.folder / "data"
    source.mkdir()
    (source / "a").write_text("1")
    try:
        far.ray("rsync-up", "data/", f"{there}/")
        owner = far.sandbox.run("stat", "-c", "%U", f"{there}/a", host=host).stdout
        far.ray("rsync-down", f"{there}/", "back/")
    finally:
        far.sandbox.run("rm", "-rf", there, host=host)

    assert owner == "user1\n"
    assert (far.folder / "back" / "a").read_text() == "1"


def test_ray_submit_over_ssh(far: Cluster) -> None:
    (far.folder / "far.py").write_text("import sys; print('far', sys.argv[1:])\n")

    assert "far ['x']" in far.ray("submit", "far.py", "--", "x").output


def test_the_dashboard_and_its_job_api_over_ssh(far: Cluster) -> None:
    with dashboard(far) as port:
        assert status_of(port, "/api/jobs/") == 401
        assert status_of(port, "/api/jobs/", token=far.token()) == 200
        submits_a_job(far, port)


def test_a_shell_and_the_autoscalers_log_over_ssh(far: Cluster) -> None:
    with terminal(far.argv(*far.ray_argv("attach"))) as shell:
        shell.type("echo $((6*7))-$(hostname)-$(tty | cut -c1-5)\n")
        shell.wait_for(f"42-{far.head()['host']}-/dev/")
        shell.type("exit\n")
        assert shell.wait() == 0
    with terminal(far.argv(*far.ray_argv("monitor"))) as monitor:
        monitor.wait_for("instance_manager.py")
        monitor.type("\x03")


def test_the_nodes_and_their_addresses_over_ssh(far: Cluster) -> None:
    (victim,) = far.wait_for_workers(1)
    assert far.ray("get-head-ip").output.split()[-1] == far.head()["ip"]
    assert far.ray("get-worker-ips").output.split()[-1] == victim["address"]
    wait_for(lambda: "1 cpu" in far.exec("ray status").output, 20)

    done = far.ray("kill-random-node -y")

    assert victim["node_id"] in done.output
    wait_for(lambda: victim["job_id"] not in far.jobs("worker"), 20)
    far.wait_for_workers(1)


def test_ray_slurm_over_ssh_on_a_cluster_that_is_up(far: Cluster) -> None:
    yaml, head = str(far.yaml), far.head()

    shown = json.loads(far.run("ray-slurm", "status", yaml, "--json").output)
    script = far.run("ray-slurm", "script", yaml, "cpu").output
    log = far.run("ray-slurm", "logs", yaml).output
    swept = far.run("ray-slurm", "sweep", yaml).output

    assert [node["kind"] for node in shown["nodes"]] == ["head", "worker"]
    assert shown["head"]["host"] == head["host"]
    assert "--cpus-per-task=1" in script and "#!/bin" in script
    assert "Ray runtime started" in log
    assert "No orphaned jobs" in swept


def test_ray_slurm_over_ssh_writes_and_checks_a_configuration(far: Cluster) -> None:
    settings = ssh_section(far.sandbox)
    login = far.folder / "laptop" / ".ssh"
    login.mkdir(parents=True)
    (login / "config").write_text(
        f"Host cluster\n  HostName {settings['host']}\n  Port {settings['port']}\n"
        f"  User user1\n  IdentityFile {settings['key_path']}\n"
        f"  UserKnownHostsFile {settings['known_hosts']}\n"
    )
    elsewhere = ("env", f"HOME={login.parent}", "ray-slurm")

    made = far.run(*elsewhere, "init", "--ssh", "cluster", "-n", far.name, "-o", "made.yaml")
    done = far.run(*elsewhere, "check", "made.yaml", "--timeout", "60", check=False)

    assert "Next: ray-slurm check made.yaml" in made.output
    for what in ("configuration", "Slurm", "node type head", "shared folder", "environment",
                 "submitting from nodes", "ports between nodes"):  # fmt: skip
        assert f"ok       {what}: " in done.output, done.output
    assert done.code == 0, done.output


def test_a_printed_link_opens_the_dashboard_in_a_browser_and_in_no_other(
    far: Cluster, tmp_path: Path
) -> None:
    far.wait_for_workers(1)
    hosts = [report["host"] for report in far.reports() if report["state"] == "joined"]
    with contextlib.closing(Links(str(far.yaml))) as links:
        link = links.wait_for(0)
        with browser() as tab:
            tab.open(link)
            tab.wait_for("Cluster status and autoscaler", "1 head")
            tab.open(f"{tab.address()}#/cluster")
            shown = tab.wait_for("TOTAL", "x 2", *hosts)
            picture = tab.screenshot(tmp_path / "dashboard.png")
        with browser() as stranger:
            for url in (link, link[: link.rindex("/") + 1]):
                stranger.open(url)
                stranger.wait_for("This link was used already")
        second = links.wait_for(1)
        (relay,) = relays(far)
        os.kill(relay, signal.SIGKILL)
        links.wait_for_words("The connection to the head is back.")
        with browser() as another:
            another.open(second)
            another.wait_for("Cluster status and autoscaler", "1 head")
        assert links.interrupt() == 0
    assert picture.stat().st_size > 20_000
    assert "Authentication Token" not in shown
    assert far.token() not in links.output
    assert "Traceback" not in links.output


def test_ray_up_again_over_ssh_disturbs_nothing(far: Cluster) -> None:
    before = far.head()

    far.up("--no-restart")

    assert far.head() == before


def test_ray_down_over_ssh_leaves_nothing(far: Cluster) -> None:
    far.down()
    far.assert_nothing_is_left()


def test_a_head_that_may_not_submit_goes_back_to_the_edge_node(far: Cluster) -> None:
    far.content["provider"].update(
        head_ssh=ssh_section(far.sandbox),
        environment={"activate": "export SLURM_CONF=/nowhere"},  # no command of Slurm's works
    )
    if far.dir.exists():
        far.down()
    far.write()

    far.up()

    far.wait_for_workers(1)
    assert far.exec("timeout 5 squeue", check=False).code != 0


def test_ray_exec_stop_over_ssh_runs_the_command_and_leaves_nothing(far: Cluster) -> None:
    far.wait_for_workers(1)

    done = far.ray("exec", "--stop", "echo the last words")

    assert "the last words" in done.output
    far.assert_nothing_is_left()


@pytest.mark.parametrize(
    "what", ["host key", "refused key", "missing key", "unreadable key", "port"]
)
def test_ssh_that_fails_is_one_clear_sentence(
    sandbox: RunningSandbox, make_cluster: MakeCluster, tmp_path: Path, what: str
) -> None:
    user2_key = sandbox.info["users"]["user2"]["key_path"]
    wrong = tmp_path / "known_hosts"
    own = Path(f"{user2_key}.pub").read_text().split()[:2]
    wrong.write_text(f"[{sandbox.info['edge']['address']}]:{sandbox.info['edge']['ssh_port']} "
                     f"{' '.join(own)}\n")  # fmt: skip
    changes, words = {
        "host key": ({"known_hosts": str(wrong)}, "host key"),
        "refused key": ({"key_path": user2_key}, "refused"),
        "missing key": ({"key_path": "/nowhere/key"}, "/nowhere/key"),
        "unreadable key": ({}, sandbox.info["users"]["user1"]["key_path"]),
        "port": ({"port": 2223}, "2223"),
    }[what]
    content = config(ssh=ssh_section(sandbox, **changes))
    # User2 may not read the key of user1; root may.
    shell = "user2" if what == "unreadable key" else None
    cluster = make_cluster("nossh", content, user="user2" if shell else "user1", shell=shell)

    done = cluster.up(check=False)

    assert done.code != 0
    assert "Traceback" not in done.output
    errors = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, done.output
    assert words in errors[0]


_HOSTS = """
import socket
host = ray.remote(num_cpus=1)(lambda: socket.gethostname())
result = [socket.gethostname(), ray.get(host.remote())]
"""
