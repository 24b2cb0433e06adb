"""Ray's own commands on a running cluster, as its documentation shows them."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.dashboard import dashboard, is_open, status_of, submits_a_job
from tests.e2e.terminal import terminal
from tests.sandbox_fixture import ROOT, wait_for

pytestmark = pytest.mark.sandbox


def test_ray_up_starts_the_head_as_one_slurm_job(cluster: Cluster) -> None:
    jobs = cluster.jobs("head")

    assert list(jobs.values()) == ["RUNNING"]
    assert list(jobs) == [cluster.head()["job_id"]]


def test_ray_up_again_without_restart_disturbs_nothing(cluster: Cluster) -> None:
    cluster.ask(_KEEPER + "result = ray.get(keeper.put.remote('kept'))")
    before = cluster.head()

    done = cluster.up("--no-restart")

    assert "Traceback" not in done.output
    assert cluster.head() == before
    assert list(cluster.jobs("head")) == [before["job_id"]]
    assert cluster.ask("result = ray.get(ray.get_actor('keeper', 'e2e').get.remote())") == "kept"


def test_ray_exec_passes_output_and_exit_code_on(cluster: Cluster) -> None:
    done = cluster.exec("hostname; echo to-stderr >&2; exit 7", check=False)

    assert done.code == 7
    assert cluster.head()["host"] in done.output.split()
    assert "to-stderr" in done.output
    assert "Traceback" not in done.output


def test_ray_exec_gives_a_command_the_stdin_it_was_given(cluster: Cluster) -> None:
    done = subprocess.run(
        cluster.argv(*cluster.ray_argv("exec", "cat; test -t 0 || echo no terminal")),
        input="through the pipe\n", capture_output=True, text=True, timeout=60,
        cwd=ROOT, check=True,
    )  # fmt: skip

    assert "through the pipe" in done.stdout
    assert "no terminal" in done.stdout


@pytest.mark.parametrize("option", ["--tmux", "--screen"])
def test_a_session_that_slurm_would_end_is_refused(cluster: Cluster, option: str) -> None:
    mark = cluster.folder / "began"

    done = cluster.ray("exec", option, f"touch {mark}", check=False)

    assert done.code != 0 and not mark.exists()
    assert "ray job submit" in done.output
    assert "Traceback" not in done.output


def test_ray_attach_is_a_shell_on_the_head(cluster: Cluster) -> None:
    with terminal(cluster.argv(*cluster.ray_argv("attach"))) as shell:
        shell.type("echo $((6*7))-$(hostname)-$(tty | cut -c1-5)\n")
        shell.wait_for(f"42-{cluster.head()['host']}-/dev/")
        shell.type("exit\n")

        assert shell.wait() == 0


def test_ray_submit_passes_arguments_and_leaves_the_home_folder_alone(cluster: Cluster) -> None:
    home = cluster.folder.parent
    script, theirs = cluster.folder / "e2e_script.py", home / "e2e_script.py"
    script.write_text("import sys; print('arguments', sys.argv[1:])\n")
    theirs.write_text("mine")
    try:
        done = cluster.ray("submit", "e2e_script.py", "--", "--lr=0.1", "a b", "$(id);'")

        assert """arguments ['--lr=0.1', 'a b', "$(id);'"]""" in done.output
        assert theirs.read_text() == "mine"
        assert not list(cluster.dir.glob("nodes/*/submit/*"))
    finally:
        theirs.unlink()


def test_ray_submit_ends_with_the_exit_code_of_the_script(cluster: Cluster) -> None:
    (cluster.folder / "fails.py").write_text("raise SystemExit(3)\n")

    assert cluster.ray("submit", "fails.py", check=False).code == 3


def test_a_folder_goes_to_the_heads_own_disk_and_back(cluster: Cluster) -> None:
    there, host = f"/tmp/{cluster.name}-up", cluster.head()["host"]
    source = cluster.folder / "data"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_text("1")
    (source / "sub" / "b").write_text("2")
    try:
        cluster.ray("rsync-up", "data/", f"{there}/")
        found = cluster.sandbox.run("find", there, "-type", "f", host=host).stdout.split()
        cluster.ray("rsync-down", f"{there}/", "back/")
    finally:
        cluster.sandbox.run("rm", "-rf", there, host=host)

    assert sorted(found) == [f"{there}/a", f"{there}/sub/b"]
    assert (cluster.folder / "back" / "a").read_text() == "1"
    assert (cluster.folder / "back" / "sub" / "b").read_text() == "2"


def test_a_file_goes_to_the_heads_own_disk_and_back(cluster: Cluster) -> None:
    there, host = f"/tmp/{cluster.name}-file", cluster.head()["host"]
    (cluster.folder / "one").write_text("one")
    try:
        cluster.ray("rsync-up", "one", there)
        found = cluster.sandbox.run("cat", there, host=host).stdout
        cluster.ray("rsync-down", there, "one-back")
    finally:
        cluster.sandbox.run("rm", "-rf", there, host=host)

    assert found == "one"
    assert (cluster.folder / "one-back").read_text() == "one"


def test_ray_rsync_down_of_a_missing_file_says_so(cluster: Cluster) -> None:
    done = cluster.ray("rsync-down", "/tmp/not-there", "x", check=False)

    assert done.code != 0
    assert "/tmp/not-there" in done.output
    assert "Traceback" not in done.output


def test_a_source_or_target_that_is_not_there_is_one_sentence_and_leaves_nothing(
    cluster: Cluster,
) -> None:
    said = {
        "nofile.py": cluster.ray("submit", "nofile.py", check=False),
        "nofile": cluster.ray("rsync-up", "nofile", "/tmp/x", check=False),
        "/proc/x/y": cluster.ray("rsync-down", "/etc/hostname", "/proc/x/y", check=False),
    }

    for path, done in said.items():
        assert done.code != 0
        assert "Traceback" not in done.output
        (error,) = [line for line in done.output.splitlines() if "nothing was copied" in line]
        assert path in error
    assert not list(cluster.dir.glob("nodes/*/submit/*"))


def test_ray_dashboard_asks_for_the_token(cluster: Cluster) -> None:
    with dashboard(cluster) as port:
        assert status_of(port, "/api/jobs/") == 401
        assert status_of(port, "/api/jobs/", token="wrong") in (401, 403)
        assert status_of(port, "/api/jobs/", token=cluster.token()) == 200


def test_the_line_that_ray_dashboard_prints_submits_a_job(cluster: Cluster) -> None:
    with terminal(cluster.argv(*cluster.ray_argv("dashboard", "-p", "28265"))) as shown:
        shown.wait_for(" COMMAND", 40)
        (line,) = re.findall(r"RAY_AUTH_MODE=.* COMMAND", shown.output)

        done = cluster.run("sh", "-c", line.replace("COMMAND", "echo submitted by the line"))

        shown.type("\x03")
        shown.wait()

    assert "submitted by the line" in done.output
    assert "succeeded" in done.output


def test_ray_job_submit_goes_through_the_dashboard(cluster: Cluster) -> None:
    with dashboard(cluster) as port:
        submits_a_job(cluster, port)


def test_ray_monitor_follows_the_autoscalers_log(cluster: Cluster) -> None:
    with terminal(cluster.argv(*cluster.ray_argv("monitor"))) as monitor:
        monitor.wait_for("monitor.log")
        monitor.wait_for("instance_manager.py")
        monitor.type("\x03")

        assert "Traceback" not in monitor.output


def test_ray_knows_the_addresses_of_head_and_workers(cluster: Cluster) -> None:
    (worker,) = cluster.wait_for_workers(1)
    addresses = set(cluster.sandbox.info["hosts"].values())

    head_ip = cluster.ray("get-head-ip").output.split()[-1]
    worker_ips = cluster.ray("get-worker-ips").output.split()

    assert head_ip == cluster.head()["ip"]
    assert head_ip in addresses
    assert worker_ips[-1] == worker["address"]


def test_ray_status_on_the_head_shows_nodes_and_resources(cluster: Cluster) -> None:
    cluster.wait_for_workers(1)
    done = wait_for(lambda: (d := cluster.exec("ray status")).output.count("1 steady") and d, 20)

    assert "1 head" in done.output
    assert "/1.0 steady" in done.output


@pytest.mark.parametrize("how", ["soft", "--hard"])
def test_ray_kill_random_node_ends_a_worker_and_ray_replaces_it(cluster: Cluster, how: str) -> None:
    (victim,) = cluster.wait_for_workers(1)

    done = cluster.ray("kill-random-node -y", *([] if how == "soft" else [how]))

    assert victim["node_id"] in done.output
    wait_for(lambda: victim["job_id"] not in cluster.jobs("worker"), 20)
    (successor,) = cluster.wait_for_workers(1)
    assert successor["node_id"] != victim["node_id"]


def test_a_ray_client_works_through_a_forwarded_port(cluster: Cluster) -> None:
    argv = cluster.ray_argv("exec", "-p", "10001", "sleep 300")
    with cluster.background(argv):
        wait_for(lambda: is_open(10001), 30)
        done = cluster.run(
            "env", "RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN_PATH={cluster.dir}/token",
            "python", "-c", _CLIENT, timeout_s=120,
        )  # fmt: skip

    assert "through the client steady" in done.output


_KEEPER = """
@ray.remote(num_cpus=0, resources={"steady": 0.1})
class Keeper:
    def put(self, value):
        self.value = value
    def get(self):
        return self.value
keeper = Keeper.options(name="keeper", namespace="e2e", lifetime="detached").remote()
"""

_CLIENT = """
import os, ray
ray.init("ray://127.0.0.1:10001")
on_steady = ray.remote(num_cpus=0, resources={"steady": 0.1})
node_type = on_steady(lambda: os.environ["RAY_NODE_TYPE_NAME"])
print("through the client", ray.get(node_type.remote()))
"""
