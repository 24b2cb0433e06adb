"""Dagster on a machine that has Slurm's commands: no SSH; and what a launcher and an installed
environment say reaches head, driver and tasks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

PROJECT = """
import json, os, sys

import dagster as dg

from dagster_glue import ComputeResource, RayLauncher, SlurmQueueConfig, SlurmResource

SAID = "driver_on of_the_environment in_a_task heads argv".split()
folder, host = sys.argv[1:]
compute = ComputeResource(
    mode="slurm",
    slurm=SlurmResource(
        queue=SlurmQueueConfig(partition="compute", time_limit="00:10:00", mem="1G"),
        remote_base=f"{folder}/base",
    ),
    default_launcher=RayLauncher(
        num_cpus_per_node=1,
        max_workers=1,
        head_mem="1200M",
        head_slurm_opts={"nodelist": host},
        head_node_address=host,
        slurm_opts={"exclude": host},
        entrypoint_num_cpus=0.5,
        runtime_env={"env_vars": {"OF_THE_LAUNCHER": "yes"}},
    ),
    pre_deployed_env_path=f"{folder}/env",
)


@dg.asset
def step(context):
    done = compute.run(
        context, "python -u payload.py --epochs 3", remote_payload_path="~/%s/payload.py"
    )
    yield from done.get_results()


result = dg.materialize([step])
(event,) = result.asset_materializations_for_node("step")
print(json.dumps({name: event.metadata[name].value for name in SAID}))
"""

PAYLOAD = """
import os, socket, sys

import ray
from dagster_pipes import open_dagster_pipes


@ray.remote(num_cpus=0.5)
def task():
    return os.environ["OF_THE_LAUNCHER"], os.environ["OF_THE_ENVIRONMENT"]


with open_dagster_pipes() as pipes:
    ray.init(address="auto")
    nodes = [node for node in ray.nodes() if "node:__internal_head__" in node["Resources"]]
    pipes.report_asset_materialization(metadata={
        "driver_on": socket.gethostname(),
        "of_the_environment": os.environ["OF_THE_ENVIRONMENT"],
        "in_a_task": ray.get(task.remote()),
        "heads": [node["NodeManagerAddress"] for node in nodes],
        "argv": sys.argv[1:],
    })
"""


@pytest.fixture
def folder(sandbox: RunningSandbox) -> Iterator[Path]:
    """Of user1, on the shared file system."""
    path = Path(sandbox.info["users"]["user1"]["home"]) / "glue-on-the-edge"
    sandbox.run("mkdir", "-p", f"{path}/env")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_without_ssh_the_payload_runs_where_and_with_what_the_launcher_says(
    sandbox: RunningSandbox, folder: Path
) -> None:
    prefix = sandbox.info["env_prefix"]
    for name, text in {
        "env/activate.sh": f'export OF_THE_ENVIRONMENT=yes PATH="{prefix}/bin:$PATH"\n',
        "project.py": PROJECT % folder.name,
        "payload.py": PAYLOAD,
    }.items():
        sandbox.run("tee", f"{folder}/{name}", stdin=text)
    head_host = sorted(sandbox.info["hosts"])[0]

    done = sandbox.run(
        "env", f"PYTHONPATH={ROOT}", f"{prefix}/bin/python", f"{folder}/project.py",
        str(folder), head_host, timeout_s=180,
    )  # fmt: skip

    said = json.loads(done.stdout.splitlines()[-1])
    assert said["argv"] == ["--epochs", "3"]
    assert said["of_the_environment"] == "yes"  # of activate.sh
    assert said["in_a_task"] == ["yes", "yes"]
    assert said["heads"] == [sandbox.info["hosts"][head_host]]  # found by its name
    assert said["driver_on"] in set(sandbox.info["hosts"]) - {head_host}
    wait_for(lambda: not sandbox.run("ls", f"{folder}/base/clusters").stdout.split())
