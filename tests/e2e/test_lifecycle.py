"""A cluster's life: changed, restarted, taken down in the middle of everything."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster, config, node_type
from tests.e2e.conftest import MakeCluster
from tests.e2e.terminal import terminal
from tests.sandbox_fixture import wait_for

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def life(make_module_cluster: MakeCluster) -> Iterator[Cluster]:
    """A cluster with one worker, which the tests of this file may change and restart.

    Its YAML names the Slurm cluster, as at sites with several: every command has to take that.
    """
    types = {"cpu": node_type(min_workers=1, max_workers=1)}
    defaults = {"partition": "compute", "time": "00:20:00", "clusters": "sandbox"}
    cluster = make_module_cluster("life", config(types, defaults=defaults))
    cluster.up()
    yield cluster


def test_changed_limits_reach_a_running_cluster(life: Cluster) -> None:
    life.wait_for_workers(1)
    before = life.head()

    life.content["available_node_types"]["cpu"].update(min_workers=2, max_workers=2)
    life.write()
    life.up("--no-restart")

    life.wait_for_workers(2)
    assert life.head() == before


def test_a_typo_in_the_yaml_is_refused_and_the_running_cluster_stays(life: Cluster) -> None:
    jobs, before = life.jobs(), life.head()
    defaults = life.content["provider"]["defaults"]

    life.content["provider"]["defaults"] = {**defaults, "partition": "computt"}
    life.write()
    done = life.up(check=False)
    life.content["provider"]["defaults"] = defaults
    life.write()

    assert done.code != 0 and "Traceback" not in done.output
    assert "invalid partition specified: computt" in done.output
    assert life.jobs() == jobs and life.head() == before


def test_ctrl_c_during_the_set_up_ends_its_command_and_says_what_stays(life: Cluster) -> None:
    (job,) = jobs = life.jobs("head")
    life.content["head_setup_commands"] = ["echo it has begun; sleep 7654"]
    life.write()

    with terminal(life.argv("env", "RAY_USAGE_STATS_ENABLED=0", *life.ray_argv("up -y"))) as screen:
        screen.wait_for("\nit has begun", 60)
        screen.type("\x03")
        screen.wait_for(f"The head's job {job} goes on running: `ray up` again")
        assert screen.wait() != 0

    assert "Traceback" not in screen.output and "srun: " not in screen.output
    wait_for(lambda: "sleep 7654" not in life.exec("ps -eo args").output, 30)
    assert life.jobs("head") == jobs


def test_a_set_up_that_fails_says_what_stays_and_ray_up_goes_on_with_it(life: Cluster) -> None:
    (job,) = jobs = life.jobs("head")
    life.content["head_setup_commands"] = ["echo no such module >&2; exit 3"]
    life.write()

    done = life.up(check=False)
    life.content["head_setup_commands"] = []
    life.write()
    life.up()

    assert done.code != 0 and "Traceback" not in done.output
    assert "\nno such module\n" in done.output
    assert "the set-up ended with exit code 3" in done.output
    assert f"The head's job {job} goes on running: `ray up` again" in done.output
    assert life.jobs("head") == jobs


def test_workers_join_a_restarted_head_in_place_and_take_work(life: Cluster) -> None:
    life.wait_for_workers(life.content["available_node_types"]["cpu"]["min_workers"])
    jobs, before = life.jobs(), life.head()

    life.up()

    assert life.head()["generation"] != before["generation"]
    assert life.head()["job_id"] == before["job_id"]
    took_work = life.ask(_ON_EVERY_WORKER.format(len(jobs) - 1))
    assert life.jobs() == jobs
    assert sorted(took_work) == sorted(report["node_id"] for report in life.workers())


def test_a_ray_that_dies_is_started_again_and_its_workers_follow(life: Cluster) -> None:
    count = life.content["available_node_types"]["cpu"]["min_workers"]
    life.wait_for_workers(count)
    jobs, before = life.jobs(), life.head()

    os.kill(life.pid_of("gcs_server"), signal.SIGKILL)
    wait_for(lambda: (life.head() or before)["generation"] != before["generation"], 60)

    assert life.head()["job_id"] == before["job_id"]
    took_work = life.ask(_ON_EVERY_WORKER.format(count))
    assert life.jobs() == jobs
    assert sorted(took_work) == sorted(report["node_id"] for report in life.workers())


def test_ray_down_leaves_nothing_while_jobs_wait_and_demand_goes_on(
    make_cluster: MakeCluster,
) -> None:
    waits = node_type(min_workers=2, max_workers=2, node_config={"partition": "down"})
    runs = node_type(min_workers=1, max_workers=1)
    cluster = make_cluster("down", config({"runs": runs, "waits": waits}))
    cluster.up()
    cluster.wait_for_workers(1)
    wait_for(lambda: list(cluster.jobs("waits").values()) == ["PENDING", "PENDING"], 20)

    with cluster.asking("time.sleep(600)"):
        cluster.ask("from ray.autoscaler.sdk import request_resources\n"
                    "request_resources(num_cpus=100)\nresult = 0")  # fmt: skip
        cluster.down()
        cluster.assert_nothing_is_left()


def test_ray_down_of_a_cluster_that_is_gone_is_harmless(make_cluster: MakeCluster) -> None:
    done = make_cluster("never").down()

    assert "Traceback" not in done.output


def test_workers_leave_when_somebody_cancels_the_head(make_cluster: MakeCluster) -> None:
    types = {
        "cpu": node_type(min_workers=1, max_workers=1),
        "waits": node_type(min_workers=1, max_workers=1, node_config={"partition": "down"}),
    }
    cluster = make_cluster("beheaded", config(types, head_timeout_s=5))
    cluster.up()
    cluster.wait_for_workers(1)
    wait_for(lambda: cluster.jobs("waits"), 20)

    cluster.run("scancel", cluster.head()["job_id"])

    wait_for(lambda: cluster.jobs() == {}, 60, poll_s=0.5)
    assert cluster.processes() == []
    assert cluster.temp_dirs() == []


def test_ray_exec_stop_runs_the_command_and_leaves_nothing(life: Cluster) -> None:
    """Last in this file, because it ends the cluster of the tests above."""
    done = life.ray("exec", "--stop", "echo the last words")

    assert "the last words" in done.output
    life.assert_nothing_is_left()


_ON_EVERY_WORKER = """
@ray.remote(num_cpus=1)
class Worker:
    def name(self):
        return os.environ["RAY_CLOUD_INSTANCE_ID"]
workers = [Worker.remote() for _ in range({})]
result = ray.get([worker.name.remote() for worker in workers])
"""
