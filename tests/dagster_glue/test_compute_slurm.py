"""Mode slurm, for real: a cluster for each asset, over SSH, from a machine without Slurm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

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
from tests.dagster_glue.assets import failure_of, metadata_of, plain, train_model
from tests.dagster_glue.payloads import write_payloads
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

BASE = "~/glue-slurm-mode"


@pytest.fixture
def compute(
    sandbox: RunningSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ComputeResource]:
    info = sandbox.info
    for name, value in {
        "HOST": info["edge"]["address"],
        "PORT": str(info["edge"]["ssh_port"]),
        "USER": "user1",
        "KEY_PATH": info["users"]["user1"]["key_path"],
        "KNOWN_HOSTS": info["known_hosts"],
    }.items():
        monkeypatch.setenv(f"SLURM_EDGE_NODE_{name}", value)
    monkeypatch.setenv("SLURM_DEPLOYMENT_BASE_PATH", BASE)
    write_payloads(tmp_path)
    monkeypatch.chdir(tmp_path)
    made = ComputeResource(
        mode=ExecutionMode.SLURM,
        slurm=SlurmResource(
            ssh=SSHConnectionResource.from_env(prefix="SLURM_EDGE_NODE_"),
            queue=SlurmQueueConfig(partition="compute", time_limit="00:10:00", mem="1500M"),
        ),
        default_launcher=RayLauncher(num_cpus_per_node=1),
    )
    yield made
    for name in clusters_left(sandbox):
        made.cleanup_cluster(name)
    sandbox.run("rm", "-rf", home(sandbox))


def home(sandbox: RunningSandbox) -> str:
    return BASE.replace("~", sandbox.info["users"]["user1"]["home"])


def clusters_left(sandbox: RunningSandbox) -> list[str]:
    done = sandbox.run("ls", f"{home(sandbox)}/clusters", check=False)
    return done.stdout.split()


def jobs_of(sandbox: RunningSandbox, cluster: str) -> list[str]:
    queue = sandbox.run("squeue", "-h", "-o", "%j").stdout.split()
    return [name for name in queue if name.startswith(f"ray:{cluster}:")]


def test_tasks_run_on_workers_that_slurm_gave_for_them_and_nothing_stays(
    compute: ComputeResource, sandbox: RunningSandbox
) -> None:
    result = dg.materialize(
        [train_model(head_mem="1500M", max_workers=2)], resources={"compute": compute}
    )

    said = metadata_of(result, "train_model")
    assert (said["shards"], said["experiment"]) == (4, result.run_id)
    assert set(said["hosts"]) <= set(sandbox.info["hosts"])
    assert len(said["slurm_job_ids"]) in (2, 3)  # the head, and one or both workers
    assert said["slurm_gpus"] == len(said["slurm_job_ids"]) - 1
    assert said["slurm_node_hours"] > 0
    assert 0 < said["slurm_cpu_efficiency_percent"] < 200
    assert 10 < said["slurm_elapsed_s"] < 300
    assert said["slurm_cpu_hours"] >= said["slurm_node_hours"]
    assert 0 < said["slurm_gpu_hours"] < said["slurm_cpu_hours"]
    assert 100 < said["slurm_peak_memory_mib"] <= said["slurm_peak_memory_all_nodes_mib"]
    assert 0 <= said["slurm_queue_wait_s"] < 60
    assert set(said["slurm_job_states"]) == set(said["slurm_job_ids"])
    assert re.fullmatch(r"[0-9a-f]{8}", said["ray_job_id"])
    assert said["ray_workers"].startswith("![workers over time, at most ")
    wait_for(lambda: not jobs_of(sandbox, said["cluster_id"]))
    assert clusters_left(sandbox) == []
    log = sandbox.run("cat", said["run_log"]).stdout
    assert "Connected to Ray cluster" in log


def test_a_bash_payload_is_one_slurm_job_and_its_failure_leaves_none(
    compute: ComputeResource, sandbox: RunningSandbox
) -> None:
    result = dg.materialize([plain("fail")], resources={"compute": compute}, raise_on_error=False)

    failure = failure_of(result, "plain")
    assert "ValueError: no such luck" in str(failure.description)
    job_ids, cluster_id = (
        failure.metadata["slurm_job_ids"].value,
        failure.metadata["cluster_id"].value,
    )
    assert isinstance(job_ids, list) and len(job_ids) == 1
    log, kept = (str(failure.metadata[name].value) for name in ("run_log", "ray_logs"))
    assert log.startswith(f"{home(sandbox)}/runs/") and kept.startswith(f"{home(sandbox)}/runs/")
    assert "ValueError: no such luck" in sandbox.run("cat", log).stdout
    assert sandbox.run("find", kept, "-name", "raylet.out").stdout.count("\n") == 1
    wait_for(lambda: not jobs_of(sandbox, str(cluster_id)))
    assert clusters_left(sandbox) == []
