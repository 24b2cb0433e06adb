"""What can never run is said at `ray up`, which leaves nothing then; what waits says why."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.e2e.cluster import UP_S, Cluster, Config, config, node_type
from tests.e2e.conftest import MakeCluster
from tests.e2e.terminal import terminal
from tests.sandbox_fixture import wait_for

pytestmark = pytest.mark.sandbox


def refused(cluster: Cluster) -> str:
    """What `ray up` says while it refuses, in its own words at the end."""
    done = cluster.up(check=False)

    assert done.code != 0, done.output
    assert "Traceback" not in done.output
    assert cluster.jobs() == {}
    assert not cluster.dir.exists()
    assert list(cluster.dir.parent.glob(f"{cluster.name}*")) == []
    return done.output


@pytest.mark.parametrize("which", ["head", "worker"])
def test_a_partition_that_does_not_exist(make_cluster: MakeCluster, which: str) -> None:
    content = config()
    name = "head" if which == "head" else "cpu"
    content["available_node_types"][name]["node_config"]["partition"] = "nowhere"

    output = refused(make_cluster("nowhere", content))

    assert "invalid partition specified: nowhere" in output
    assert f"'{name}'" in output
    assert "compute" in output  # what there is instead


@pytest.mark.parametrize("options", [
    {"cpus-per-task": 99}, {"mem": "900G"}, {"gres": "gpu:a100:7"}, {"gres": "gpu:h100:1"}
], ids=["cpus", "memory", "gpus", "gpu type"])  # fmt: skip
def test_a_worker_that_can_never_run(make_cluster: MakeCluster, options: Config) -> None:
    content = config({"huge": node_type(max_workers=1, node_config=options)})

    output = refused(make_cluster("never", content))

    assert "Requested node configuration is not available" in output
    assert "'huge'" in output
    ((option, value),) = options.items()
    assert f"Asked for: {option}: {value}; " in output
    assert "4 CPUs, 6000 MB, gpu:a100:2" in output  # what there is instead


def test_a_time_limit_that_slurm_takes_and_never_starts(make_cluster: MakeCluster) -> None:
    content = config()
    content["provider"]["defaults"]["time"] = "3-00:00:00"

    output = refused(make_cluster("toolong", content))

    assert output.count("time: 3-00:00:00 is longer than partition compute allows") == 1
    assert "node types 'head' and 'cpu'" in output


def test_an_account_that_is_not_the_users(make_cluster: MakeCluster) -> None:
    content = config({"cpu": node_type(max_workers=1, node_config={"account": "nobodys"})})

    output = refused(make_cluster("account", content))

    assert "Invalid account" in output
    assert "research" in output  # what there is instead


@pytest.mark.parametrize(("options", "words"), [
    ({"cpu-per-task": 2}, "cpus-per-task"),
    ({"job-name": "mine"}, "job-name"),
    ({"partition": "compute\n#SBATCH --uid=0"}, "partition"),
], ids=["misspelt", "ours", "injected"])  # fmt: skip
def test_an_option_that_is_none_of_the_users(
    make_cluster: MakeCluster, options: Config, words: str
) -> None:
    content = config({"odd": node_type(max_workers=1, node_config=options)})

    output = refused(make_cluster("odd", content))

    assert words in output
    assert "'odd'" in output


def test_a_file_mount_that_does_not_exist(make_cluster: MakeCluster) -> None:
    content = config()
    content["file_mounts"] = {"/tmp/x": "/nonexist"}

    assert "file_mounts: /nonexist does not exist" in refused(make_cluster("mount", content))


def test_a_key_that_ray_does_not_know(make_cluster: MakeCluster) -> None:
    content = config({"cpu": {**node_type(max_workers=1), "min_worker": 1}})

    assert "'min_worker'" in refused(make_cluster("misspelt", content))


def test_a_folder_that_the_hosts_do_not_share(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("unshared", config())
    folder = Path("/tmp", cluster.name)
    cluster.content["provider"]["cluster_dir"] = str(folder)
    cluster.write()
    try:
        done = cluster.up(check=False)
        cluster.down()
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    assert done.code != 0
    assert "Traceback" not in done.output
    (error,) = [line for line in done.output.splitlines() if "provider.cluster_dir" in line]
    assert str(folder) in error and "share" in error


def test_a_machine_without_slurm(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("noslurm", shell=None)
    tools = cluster.folder / "tools"  # what every machine has
    tools.mkdir()
    for tool in ("sh", "cat", "cut", "getent", "head", "id", "mkdir", "readlink", "stat"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}")
    path = f"{cluster.sandbox.info['env_prefix']}/bin:{tools}"

    done = cluster.run("env", f"PATH={path}", *cluster.ray_argv("up -y"), check=False)

    assert done.code != 0
    assert "Traceback" not in done.output
    (error,) = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert "sbatch is not on PATH" in error and "provider.ssh" in error


@pytest.fixture(scope="module")
def queued(make_module_cluster: MakeCluster) -> Cluster:
    """Not up yet: a head that waits until somebody changes its begin, a worker that waits on, and
    more workers than their user may submit."""
    waits = node_type(min_workers=1, max_workers=1, node_config={"partition": "down"})
    options = {"partition": "down", "qos": "few"}
    limited = node_type(min_workers=3, max_workers=3, node_config=options)
    content = config({"waits": waits, "limited": limited})
    content["available_node_types"]["head"]["node_config"]["begin"] = "now+1hour"
    return make_module_cluster("queued", content)


def test_a_terminal_shows_in_place_why_the_head_waits_and_until_when(queued: Cluster) -> None:
    quiet = ("env", "RAY_USAGE_STATS_ENABLED=0")  # Ray asks a terminal about it for ten seconds
    with terminal(queued.argv(*quiet, *queued.ray_argv("up -y"))) as screen:
        screen.wait_for("(expected start ", 40)
        screen.type("\x03")
        screen.wait_for("The head's job stays in Slurm's queue")
        assert screen.wait() != 0

    assert re.search(r"\r\x1b\[J  job \d+ waits in partition compute: ", screen.output)
    assert "Traceback" not in screen.output
    assert list(queued.jobs("head").values()) == ["PENDING"]


def test_ray_up_again_goes_on_waiting_and_a_pipe_gets_a_line_per_change(queued: Cluster) -> None:
    (job,) = queued.jobs("head")
    log = queued.folder / "up.log"
    command = f"exec ray up -y {queued.yaml} > up.log 2>&1"
    with queued.background(["sh", "-c", command]) as up:
        wait_for(lambda: log.exists() and " waits in partition " in log.read_text(), 40)
        queued.run("scontrol", "update", f"JobId={job}", "StartTime=now")
        assert up.wait(UP_S) == 0, log.read_text()

    words = [line.strip() for line in log.read_text().splitlines() if f"job {job} " in line]
    assert words[0].startswith(f"job {job} waits in partition compute: ")
    assert len(words) == len(set(words))
    assert "\x1b[K" not in log.read_text()
    assert list(queued.jobs("head")) == [job]


def test_a_worker_that_waits_has_a_reason_people_understand(queued: Cluster) -> None:
    wait_for(lambda: list(queued.jobs("waits").values()) == ["PENDING"], 20)

    done = queued.run("ray-slurm", "status", str(queued.yaml))

    assert "use another partition" in done.output


def test_of_more_workers_than_may_be_submitted_those_go_that_may(queued: Cluster) -> None:
    wait_for(lambda: len(queued.jobs("limited")) == 2, 40)

    done = queued.run("ray-slurm", "status", str(queued.yaml), "--json")

    rows = [row for row in json.loads(done.output)["nodes"] if row["node_type"] == "limited"]
    assert sorted(row["state"] for row in rows) == ["held", "queued", "queued"]
    (held,) = [row["reason"] for row in rows if row["state"] == "held"]
    assert "QOSMaxSubmitJobPerUserLimit" in held


def test_a_terminal_gets_tables_that_fit_it_and_a_pipe_gets_whole_lines(queued: Cluster) -> None:
    argv = ["ray-slurm", "status", str(queued.yaml)]

    piped = queued.run(*argv).output
    with terminal(queued.argv(*argv)) as screen:
        assert screen.wait() == 0

    (row,) = [line for line in piped.splitlines() if " waits " in line]
    assert row.endswith(".log")
    assert "━" not in piped and "─" not in piped
    assert "─" in screen.output
    table = re.sub(r"\x1b\[[\d;]*m", "", screen.output).rpartition("NODE ")[2]
    assert max(len(line) for line in table.splitlines()) <= 80, table
