"""What Ray sees is what Slurm granted."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.e2e.cluster import Cluster

pytestmark = pytest.mark.sandbox

MB = 1024 * 1024


@pytest.fixture(scope="module")
def seen(cluster: Cluster) -> Any:
    """What tasks and Ray's node table say while a `cpu` and a `gpu` worker run."""
    answer = cluster.ask(_LOOK)
    # Asked of Slurm while its jobs are there: the workers leave when idle.
    for node in answer["nodes"].values():
        job = node["Labels"].get("slurm/job-id", "")
        node["slurm"] = cluster.sandbox.run("scontrol", "show", "job", job).stdout
    return answer


def test_a_node_has_the_cpus_of_its_job_and_not_of_the_host(seen: Any) -> None:
    assert seen["nodes"]["cpu"]["Resources"]["CPU"] == 2
    assert "NumCPUs=2 " in seen["nodes"]["cpu"]["slurm"]
    assert seen["nodes"]["steady"]["Resources"]["CPU"] == 1


def test_a_head_told_to_take_no_tasks_takes_none(seen: Any) -> None:
    assert "CPU" not in seen["nodes"]["head"]["Resources"]


def test_memory_and_object_store_share_the_jobs_memory(seen: Any) -> None:
    for name in ("head", "steady", "cpu", "gpu"):
        resources = seen["nodes"][name]["Resources"]
        total_mb = (resources["memory"] + resources["object_store_memory"]) / MB
        assert "mem=1G" in seen["nodes"][name]["slurm"]
        assert 800 < total_mb <= 1024


def test_a_task_gets_the_gpu_that_slurm_gave_the_job(seen: Any) -> None:
    assert seen["nodes"]["gpu"]["Resources"]["GPU"] == 1
    assert seen["gpu"]["visible"] in ("0", "1")
    assert [str(i) for i in seen["gpu"]["ids"]] == [seen["gpu"]["visible"]]
    assert re.search(r"gres[/:]gpu", seen["nodes"]["gpu"]["slurm"])


def test_nodes_without_gpus_asked_for_have_none(seen: Any) -> None:
    assert "GPU" not in seen["nodes"]["cpu"]["Resources"]
    assert seen["cpu"]["visible"] in (None, "")


def test_the_gpus_type_is_a_label_and_a_resource(seen: Any) -> None:
    # The task asked for both, so Ray's autoscaler and its scheduler know them, too.
    assert seen["nodes"]["gpu"]["Labels"]["ray.io/accelerator-type"] == "A100"
    assert seen["nodes"]["gpu"]["Resources"]["accelerator_type:A100"] == 1


def test_labels_say_where_a_node_is_and_until_when(seen: Any) -> None:
    for name in ("head", "steady", "cpu", "gpu"):
        node = seen["nodes"][name]
        labels = node["Labels"]
        assert labels["slurm/node-type"] == name
        assert f"NodeList={labels['slurm/host']}\n" in node["slurm"]
        assert f"Partition={labels['slurm/partition']} " in node["slurm"]
        end = re.search(r"EndTime=(\S+)", node["slurm"])
        assert end is not None
        # Slurm 22.05 tells a job no end time; ours follows from the limit, to the second or so.
        assert end.group(1)[:15] == labels["slurm/end-time"].replace(".", ":")[:15]


def test_labels_of_the_yaml_are_on_the_node(seen: Any) -> None:
    assert seen["nodes"]["gpu"]["Labels"]["team"] == "vision"
    assert "team" not in seen["nodes"]["cpu"]["Labels"]


_LOOK = """
class Look:  # an actor holds its node until both have looked
    def look(self):
        return {"visible": os.environ.get("CUDA_VISIBLE_DEVICES"), "ids": ray.get_gpu_ids()}
on_gpu = ray.remote(num_gpus=1, num_cpus=1, accelerator_type="A100",
                    label_selector={"ray.io/accelerator-type": "A100"})(Look).remote()
on_cpu = ray.remote(num_cpus=2, label_selector={"slurm/node-type": "cpu"})(Look).remote()
gpu, cpu = ray.get([on_gpu.look.remote(), on_cpu.look.remote()])
nodes = {n["Labels"]["slurm/node-type"]: n for n in ray.nodes() if n["Alive"]}
result = {"gpu": gpu, "cpu": cpu, "nodes": nodes}
"""
