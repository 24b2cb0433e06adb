"""`provider.start_together`: head and first workers as one heterogeneous job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster, config, node_type
from tests.e2e.conftest import MakeCluster
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def together(make_module_cluster: MakeCluster) -> Iterator[Cluster]:
    """A head, a worker with two CPUs and one with a GPU; each on a host of its own, as Slurm
    starts components."""
    types = {
        "cpu": node_type(cpus=2, mem="1200M", min_workers=1, max_workers=1, resources={"cpu": 1}),
        "gpu": node_type(
            min_workers=1, max_workers=1, labels={"team": "vision"},
            node_config={"gres": "gpu:a100:1", "partition": "gpu"},
        ),
    }  # fmt: skip
    cluster = make_module_cluster("together", config(types, start_together=True))
    cluster.up()
    yield cluster


def test_every_node_is_a_component_of_one_job_with_the_resources_it_asked_for(
    together: Cluster,
) -> None:
    together.wait_for_workers(2)
    jobs = together.jobs()
    (leader,) = {name.partition("+")[0] for name in jobs}
    assert jobs == {f"{leader}+{number}": "RUNNING" for number in range(3)}

    nodes = together.ask(_NODES)
    assert {name: node["resources"] for name, node in nodes.items()} == {
        "head": {}, "cpu": {"CPU": 2, "cpu": 1}, "gpu": {"CPU": 1, "GPU": 1}
    }  # fmt: skip
    assert nodes["gpu"]["labels"]["team"] == "vision"
    ids = [nodes[name]["labels"]["slurm/job-id"] for name in ("head", "cpu", "gpu")]
    assert ids == [str(int(leader) + number) for number in range(3)]
    assert nodes["cpu"]["memory_mb"] > nodes["gpu"]["memory_mb"] > 0
    assert together.jobs() == jobs


def test_a_restarted_ray_gets_the_same_components_back(together: Cluster) -> None:
    together.wait_for_workers(2)
    jobs, before = together.jobs(), together.head()

    together.up()

    assert together.head()["generation"] != before["generation"]
    wait_for(lambda: sorted(together.ask(_NODES)) == ["cpu", "gpu", "head"], 60)
    assert together.jobs() == jobs


def test_a_component_that_left_is_given_back_and_replaced_by_a_job_of_its_own(
    together: Cluster,
) -> None:
    together.wait_for_workers(2)
    before = set(together.jobs())

    done = together.ray("kill-random-node", "-y")

    assert "Traceback" not in done.output
    (component,) = wait_for(lambda: before - set(together.jobs()), 20)
    (replacement,) = wait_for(lambda: set(together.jobs()) - before, 40)
    assert "+" in component and "+" not in replacement
    together.wait_for_workers(2)
    assert set(together.jobs()) == before - {component} | {replacement}


def test_more_components_than_hosts_are_refused_instead_of_waiting_for_ever(
    sandbox: RunningSandbox, make_cluster: MakeCluster
) -> None:
    hosts = len(sandbox.info["hosts"])
    types = {"cpu": node_type(min_workers=hosts, max_workers=hosts)}
    cluster = make_cluster("crowd", config(types, start_together=True))

    done = cluster.up(check=False)

    assert done.code != 0
    words = f"{hosts + 1} nodes are more than the hosts of partition compute ({hosts})"
    assert words in done.output
    assert cluster.jobs() == {} and not cluster.dir.exists()


_NODES = """
result = {}
for node in ray.nodes():
    given = node["Resources"]
    kept = {k: v for k, v in given.items() if k in ("CPU", "GPU", "cpu") and v}
    result[node["Labels"]["slurm/node-type"]] = {
        "resources": kept, "labels": node["Labels"], "memory_mb": given["memory"] / 2**20
    }
"""
