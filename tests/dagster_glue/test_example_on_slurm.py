"""The example project on Slurm, over SSH, with nothing changed but variables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_glue import ComputeResource, SlurmResource, SSHConnectionResource
from tests.dagster_glue.dagster_project import DagsterProject
from tests.dagster_glue.edge import ssh_section
from tests.sandbox_fixture import RunningSandbox

pytestmark = pytest.mark.sandbox
pytest.importorskip("dagster_dg_cli", reason="the extra `dev` brings it")

BASE = "glue-example"
DATA = "ray-slurm-demo"


@pytest.fixture
def compute(sandbox: RunningSandbox) -> Iterator[ComputeResource]:
    """Sees the project's clusters, and ends them."""
    home = sandbox.info["users"]["user1"]["home"]
    ssh = SSHConnectionResource(**ssh_section(sandbox))
    slurm = SlurmResource(ssh=ssh, remote_base=f"{home}/{BASE}")
    made = ComputeResource(mode="slurm-session", slurm=slurm)
    yield made
    for cluster in made.clusters():
        made.cleanup_cluster(cluster.cluster_id)
    sandbox.run("rm", "-rf", f"{home}/{BASE}", f"{home}/{DATA}")


def test_the_sweep_and_the_search_share_a_session_on_slurm_s_hosts(
    compute: ComputeResource, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    project = DagsterProject(tmp_path)
    edge, user = sandbox.info["edge"], sandbox.info["users"]["user1"]
    project.dg(
        "launch",
        "--assets",
        "dataset,trial,tuned_model",
        "--partition",
        "0.1",
        timeout_s=300,
        RAY_SLURM_MODE="slurm-session",
        SLURM_EDGE_NODE_HOST=edge["address"],
        SLURM_EDGE_NODE_PORT=str(edge["ssh_port"]),
        SLURM_EDGE_NODE_USER="user1",
        SLURM_EDGE_NODE_KEY_PATH=user["key_path"],
        SLURM_EDGE_NODE_KNOWN_HOSTS=sandbox.info["known_hosts"],
        SLURM_PARTITION="compute",
        SLURM_MEM="1000M",
        SLURM_DEPLOYMENT_BASE_PATH=f"~/{BASE}",
        SLURM_ENV_PATH=sys.prefix,
    )
    trial, tuned = project.metadata("trial"), project.metadata("tuned_model")
    assert trial["cluster_id"] == tuned["cluster_id"]
    shared = {cluster.cluster_id: cluster for cluster in compute.clusters()}[trial["cluster_id"]]
    assert (shared.mode, shared.is_leased) == ("slurm-session", False)
    assert trial["learning_rate"] == 0.1
    assert trial["path"] == f"{user['home']}/{DATA}/trial-0.1.json"
    assert tuned["trials"] == 4
    assert set(tuned["hosts"]) <= set(sandbox.info["hosts"])
    for metadata in (trial, tuned):
        assert len(metadata["slurm_job_ids"]) >= 2  # a head, and workers that Ray asked for
