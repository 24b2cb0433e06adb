"""Broken environments, lost hosts, a silent controller, time limits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, config, node_type
from tests.e2e.conftest import MakeCluster
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

OBSERVED_S = 20


@pytest.fixture(scope="module")
def trouble(sandbox: RunningSandbox, make_module_cluster: MakeCluster) -> Iterator[Cluster]:
    """A head on n1; workers that break, that another host can replace, that stay.

    Where there are hosts enough, one that loses power is nobody else's: Slurm fills the first
    hosts first, and the last one is that of another test.
    """
    hosts = sorted(sandbox.info["hosts"])
    elsewhere = [*hosts[:-3], hosts[-1]] if len(hosts) > 4 else ["n1"]
    types = {
        "broken": node_type(
            max_workers=2, resources={"broken": 1},
            worker_setup_commands=["echo no such $((40+2)) module; exit 3"],
        ),
        "bare": node_type(max_workers=1, resources={"bare": 1}),
        "away": node_type(
            max_workers=1, resources={"away": 1}, idle_timeout_s=5,
            node_config={"exclude": ",".join(elsewhere)},
        ),
        "ends": node_type(max_workers=2, resources={"ends": 1}, idle_timeout_s=5),
    }  # fmt: skip
    activate = "case $SLURM_JOB_NAME in *:bare:*) PATH=/usr/bin:/bin;; esac"
    content = config(types, environment={"activate": activate})
    content["available_node_types"]["head"]["node_config"]["nodelist"] = "n1"
    cluster = make_module_cluster("trouble", content)
    cluster.up()
    yield cluster


def test_broken_workers_are_not_launched_for_ever_and_say_why(trouble: Cluster) -> None:
    with trouble.asking(_BROKEN):
        wait_for(lambda: {"broken", "bare"} <= held_back(trouble).keys(), 40)
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > OBSERVED_S, OBSERVED_S + 20, poll_s=1)
        causes = {name: state["cause"] for name, state in held_back(trouble).items()}
        logs = list(trouble.dir.glob("logs/*.log"))
        told = {
            "the monitor's log": trouble.monitor_log(),
            "ray-slurm status": trouble.run("ray-slurm", "status", str(trouble.yaml)).output,
        }

    assert 3 <= len(logs) - 1 <= 8, logs  # but for the head's
    assert "exit code 3" in causes["broken"]
    assert "there is no 'ray' on PATH" in causes["bare"]
    for place, text in told.items():
        assert "no such 42 module" in text, place
        assert "there is no 'ray' on PATH" in text, place
    assert trouble.exec("echo usable").output.count("usable") >= 1


def held_back(cluster: Cluster) -> Any:
    """Node types that fail, as the autoscaler publishes them."""
    return (cluster.json("autoscaler.json") or {"types": {}})["types"]


def test_a_node_near_its_time_limit_drains_and_has_a_successor(trouble: Cluster) -> None:
    with trouble.asking(_ACTOR.format("ends")):
        (first,) = trouble.wait_for_workers(1)
        trouble.run("scontrol", "update", f"jobid={first['job_id']}", "timelimit=3")
        # What Slurm does to the batch process at `--signal=B:USR1@lead`.
        trouble.run("scancel", "--batch", "--signal=USR1", first["job_id"])
        (draining,) = wait_for(lambda: trouble.workers("draining"), 20)
        assert draining["node_id"] == first["node_id"]
        assert draining["reason"] == "its time limit is near"  # as it is now

        host = trouble.ask(_WHERE.format("ends"))

    assert host != first["node_id"]
    assert "drain accepted" in trouble.agent_log(first["node_id"])
    wait_for(lambda: first["job_id"] not in trouble.jobs(), 30)
    wait_for(lambda: trouble.jobs("ends") == {}, 30)


def test_a_host_that_lost_power_is_replaced_for_the_work_that_waits(trouble: Cluster) -> None:
    sandbox = trouble.sandbox
    with trouble.asking(_ACTOR.format("away")):
        (first,) = trouble.wait_for_workers(1)
        try:
            sandbox.control("kill", first["host"])
            # Ray sees it after about 40 s without heartbeat, Slurm after 30 s (SlurmdTimeout).
            second = trouble.ask(_WHERE.format("away"), timeout_s=150)
        finally:
            sandbox.control("start", first["host"])

    assert second != first["node_id"]
    wait_for(lambda: trouble.jobs("away") == {}, 30)


@pytest.mark.alone
def test_a_controller_silent_for_a_while_costs_no_node_and_no_launch(cluster: Cluster) -> None:
    cluster.wait_for_workers(1)
    go = cluster.folder / "go"
    jobs, known = cluster.jobs(), {report["node_id"] for report in cluster.reports()}
    with cluster.asking(_LATER.format(str(go))) as driver:
        wait_for(lambda: (cluster.folder / "go.waits").exists(), 20)
        cluster.sandbox.control("pause", "slurmctld")
        try:
            go.touch()  # so a worker is wanted while nobody answers
            began = time.monotonic()
            # Slurm's commands give up after ten seconds, Ray's autoscaler looks every second.
            wait_for(lambda: time.monotonic() - began > 13, 30, poll_s=1)
        finally:
            cluster.sandbox.control("resume", "slurmctld")
        output, _ = driver.communicate(timeout=90)

    launched = {report["node_id"] for report in cluster.reports()} - known
    assert "RESULT" in output
    assert len(launched) == 1
    assert jobs.items() <= cluster.jobs().items()


_BROKEN = """
task = ray.remote(num_cpus=0)(lambda: 1)
wanted = ["broken", "broken", "bare"]
result = ray.get([task.options(resources={name: 1}).remote() for name in wanted])
"""

_ACTOR = """
@ray.remote(num_cpus=0, resources={{"{}": 1}})
class Actor:
    def ready(self):
        return 1
actor = Actor.remote()
ray.get(actor.ready.remote())
time.sleep(15)
result = 0
"""

_WHERE = """
where = ray.remote(num_cpus=0, resources={{"{}": 0.5}})(lambda: os.environ["RAY_CLOUD_INSTANCE_ID"])
result = ray.get(where.remote())
"""

_LATER = """
open({0!r} + ".waits", "w").close()
while not os.path.exists({0!r}):
    time.sleep(0.1)
result = ray.get(ray.remote(num_cpus=2)(lambda: 1).remote())
"""
