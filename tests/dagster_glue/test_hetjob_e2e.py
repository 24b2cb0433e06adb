"""Mode slurm-hetjob, for real: two components, over SSH, from a machine without Slurm.

(Dagster's context annotations rule out postponed ones.)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_glue import (
    ComputeResource,
    ExecutionMode,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
    SSHConnectionResource,
)
from tests.dagster_glue.assets import failure_of, metadata_of
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

BASE = "~/glue-hetjob"

PAYLOAD = """
import os
import sys

import ray
from dagster_pipes import open_dagster_pipes


@ray.remote
def where():
    labels = ray.get_runtime_context().get_node_labels()
    return labels["component-id"], labels["slurm/job-id"], os.environ.get("CUDA_VISIBLE_DEVICES")


with open_dagster_pipes() as pipes:
    ray.init(address="auto")
    on_cpu = where.options(resources={"cpu": 1})
    on_gpu = where.options(num_gpus=1, label_selector={"component-id": "gpu"})
    if "fail" in sys.argv:
        raise ValueError(f"no such luck on {ray.get(on_gpu.remote())}")
    found = ray.get([on_cpu.remote(), on_gpu.remote()])
    pipes.report_asset_materialization(metadata={"found": found})
"""


@pytest.fixture
def compute(
    sandbox: RunningSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ComputeResource]:
    edge, user = sandbox.info["edge"], sandbox.info["users"]["user1"]
    (tmp_path / "parts.py").write_text(PAYLOAD)
    monkeypatch.chdir(tmp_path)
    made = ComputeResource(
        mode=ExecutionMode.SLURM_HETJOB,
        slurm=SlurmResource(
            ssh=SSHConnectionResource(
                host=edge["address"],
                port=edge["ssh_port"],
                user="user1",
                key_path=user["key_path"],
                known_hosts=sandbox.info["known_hosts"],
            ),
            queue=SlurmQueueConfig(partition="compute", time_limit="00:10:00", mem="1200M"),
            remote_base=BASE,
        ),
    )
    yield made
    for name in clusters_left(sandbox):
        made.cleanup_cluster(name)
    sandbox.run("rm", "-rf", home(sandbox))


def test_tasks_run_on_the_component_they_are_sent_to_and_nothing_stays(
    compute: ComputeResource, sandbox: RunningSandbox
) -> None:
    result = dg.materialize([parts()], resources={"compute": compute})

    said = metadata_of(result, "parts")
    leader, *_ = said["slurm_job_ids"][0].split("+")
    assert sorted(said["slurm_job_ids"]) == [f"{leader}+{number}" for number in range(3)]
    cpu, gpu = str(int(leader) + 1), str(int(leader) + 2)  # raw ids follow the first one's
    assert said["found"] == [["cpu", cpu, None], ["gpu", gpu, "0"]]
    assert said["slurm_gpus"] == 1
    wait_for(lambda: not jobs_of(sandbox, said["cluster_id"]))
    assert clusters_left(sandbox) == []


def test_one_launcher_is_one_component_and_a_failed_payload_leaves_none(
    compute: ComputeResource, sandbox: RunningSandbox
) -> None:
    @dg.asset(name="parts")
    def fails(context: dg.AssetExecutionContext, compute: ComputeResource) -> Any:
        launcher = RayLauncher(num_gpus_per_node=1, component_id="gpu", head_mem="1200M")
        return compute.run(context, "parts.py fail", launcher=launcher).get_materialize_result()

    result = dg.materialize([fails], resources={"compute": compute}, raise_on_error=False)

    failure = failure_of(result, "parts")
    assert "no such luck on ('gpu'," in str(failure.description)
    wait_for(lambda: not jobs_of(sandbox, str(failure.metadata["cluster_id"].value)))
    assert clusters_left(sandbox) == []


def parts() -> dg.AssetsDefinition:
    @dg.asset(name="parts")
    def asset(context: dg.AssetExecutionContext, compute: ComputeResource) -> Any:
        launchers = {
            "cpu": RayLauncher(num_cpus_per_node=2, head_mem="1200M"),
            "gpu": RayLauncher(num_gpus_per_node=1, slurm_opts={"partition": "gpu"}),
        }
        return compute.run_hetjob(context, "parts.py", launchers).get_materialize_result()

    return asset


def home(sandbox: RunningSandbox) -> str:
    return BASE.replace("~", sandbox.info["users"]["user1"]["home"])


def clusters_left(sandbox: RunningSandbox) -> list[str]:
    return sandbox.run("ls", f"{home(sandbox)}/clusters", check=False).stdout.split()


def jobs_of(sandbox: RunningSandbox, cluster: str) -> list[str]:
    queue = sandbox.run("squeue", "-h", "-o", "%j").stdout.split()
    return [name for name in queue if name.startswith(f"ray:{cluster}:")]
