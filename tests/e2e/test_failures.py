"""Broken environments, lost hosts, a silent controller, time limits."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster, config, node_type
from tests.e2e.conftest import MakeCluster
from tests.sandbox_fixture import wait_for

pytestmark = pytest.mark.sandbox

OBSERVED_S = 30


@pytest.fixture(scope="module")
def trouble(make_module_cluster: MakeCluster) -> Iterator[Cluster]:
    """A head on n1; workers that break, that another host can replace, that stay."""
    types = {
        "broken": node_type(
            max_workers=2, resources={"broken": 1},
            worker_setup_commands=["echo no such module; exit 3"],
        ),
        "away": node_type(
            max_workers=1, resources={"away": 1}, idle_timeout_s=5, node_config={"exclude": "n1"}
        ),
        "ends": node_type(max_workers=2, resources={"ends": 1}, idle_timeout_s=5),
    }  # fmt: skip
    content = config(types)
    content["available_node_types"]["head"]["node_config"]["nodelist"] = "n1"
    cluster = make_module_cluster("trouble", content)
    cluster.up()
    yield cluster


def test_a_broken_worker_is_not_launched_for_ever_and_says_why(trouble: Cluster) -> None:
    with trouble.asking(_TASKS.format("broken", 2)):
        wait_for(lambda: trouble.reports()[1:], 30)
        began = time.monotonic()
        logs: list[str] = []

        def attempts() -> bool:
            nonlocal logs
            logs = [path.name for path in trouble.dir.glob("logs/*.log")]
            return time.monotonic() - began > OBSERVED_S

        wait_for(attempts, OBSERVED_S + 20, poll_s=1)
        state = trouble.json("autoscaler.json")["types"]["broken"]
        log = trouble.monitor_log()

    assert 2 <= len(logs) - 1 <= 5, logs  # but for the head's
    assert "exit code 3" in state["cause"]
    assert "no such module" in log
    assert trouble.exec("echo usable").output.count("usable") >= 1


def test_a_node_near_its_time_limit_drains_and_has_a_successor(trouble: Cluster) -> None:
    with trouble.asking(_ACTOR.format("ends")):
        (first,) = trouble.wait_for_workers(1)
        # What Slurm does to the batch process at `--signal=B:USR1@lead`.
        trouble.run("scancel", "--batch", "--signal=USR1", first["job_id"])
        (draining,) = wait_for(lambda: trouble.workers("draining"), 20)
        assert draining["node_id"] == first["node_id"]

        host = trouble.ask(_WHERE.format("ends"))

    assert host != first["node_id"]
    assert "drain accepted" in trouble.agent_log(first["node_id"])
    wait_for(lambda: first["job_id"] not in trouble.jobs(), 30)
    wait_for(lambda: trouble.jobs("ends") == {}, 30)


def test_work_of_a_host_that_lost_power_goes_on_elsewhere(trouble: Cluster) -> None:
    sandbox = trouble.sandbox
    with trouble.asking(_RETRIED.format(str(trouble.folder))) as task:
        (first,) = trouble.wait_for_workers(1)
        wait_for(lambda: (trouble.folder / "started").exists(), 30)
        try:
            sandbox.control("kill", first["host"])
            (trouble.folder / "go").touch()
            output, _ = task.communicate(timeout=150)
        finally:
            sandbox.control("start", first["host"])

    (line,) = [line for line in output.splitlines() if line.startswith("RESULT")]
    assert first["node_id"] not in line
    wait_for(lambda: trouble.jobs("away") == {}, 30)


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


_TASKS = """
task = ray.remote(num_cpus=0, resources={{"{}": 1}})(lambda: 1)
result = ray.get([task.remote() for _ in range({})])
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

_RETRIED = """
folder = {!r}
@ray.remote(num_cpus=0, resources={{"away": 1}}, max_retries=5)
def work():
    open(folder + "/started", "w").close()
    while not os.path.exists(folder + "/go"):
        time.sleep(0.1)
    time.sleep(3)
    return os.environ["RAY_CLOUD_INSTANCE_ID"]
result = ray.get(work.remote())
"""
