"""The reference document's three blocks of Python, run from the document itself over SSH.

Only the package in the import and the sizes are others: the sandbox's hosts are small.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_glue import ComputeResource, SlurmResource, SSHConnectionResource
from tests.dagster_glue.edge import ssh_section
from tests.sandbox_fixture import ROOT, RunningSandbox

pytestmark = pytest.mark.sandbox

DOCUMENT = ROOT.parent / "shared" / "seed-ray-on-slurm.md"
BASE = "~/glue-reference"

_BLOCK = re.compile(r'^```python title="(?P<title>[^"]+)"\n(?P<code>.*?)^```$', re.M | re.S)
_OTHERS = {
    "dagster_slurm": "dagster_glue",
    "num_cpus_per_node=32": "num_cpus_per_node=2",
    "num_gpus_per_node=4": "num_gpus_per_node=2",
    "num_cpus_per_node=16": "num_cpus_per_node=1",
    "num_gpus_per_node=2,\n        working_dir": "num_gpus_per_node=1,\n        working_dir",
    'time_limit="01:00:00"': 'time_limit="01:00:00", mem="800M"',
}

# What a project has around the blocks: the definitions, and a second asset like the first.
_PROJECT = """
import json, sys
import dagster as dg
from assets.again import train_again
from assets.train import train_model
from definitions.assets import compute

defs = dg.Definitions(assets=[train_model, train_again], resources={"compute": compute})
dg.Definitions.validate_loadable(defs)
result = defs.get_implicit_global_asset_job_def().execute_in_process()
said = {}
for name in ("train_model", "train_again"):
    (event,) = result.asset_materializations_for_node(name)
    values = {key: value.value for key, value in event.metadata.items()}
    said[name] = {key: values[key] for key in sys.argv[1:]}
print("\\n" + json.dumps(said))
"""


def blocks() -> dict[str, str]:
    """By their titles, with the sandbox's sizes."""
    if not DOCUMENT.exists():
        pytest.skip(f"the reference document is not here ({DOCUMENT})")
    found = {m["title"]: m["code"] for m in _BLOCK.finditer(DOCUMENT.read_text())}
    text = "\0".join(found.values())
    for ours, theirs in _OTHERS.items():
        assert ours in text, f"the document has changed: {ours!r} is not in it"
        text = text.replace(ours, theirs)
    return dict(zip(found, text.split("\0"), strict=True))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The blocks as the files that they say they are."""
    code = blocks()
    again = code["assets/train.py"].replace("def train_model(", "def train_again(")
    files = {
        "definitions/assets.py": code["definitions/assets.py"],
        "assets/train.py": code["assets/train.py"],
        "assets/again.py": again.replace("@dg.asset(", '@dg.asset(deps=["train_model"], '),
        "ray_jobs/train_model/train/entrypoint.py": code["train/entrypoint.py"],
        "project.py": _PROJECT,
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.fixture
def environment(sandbox: RunningSandbox) -> Iterator[dict[str, str]]:
    """How the process finds the sandbox; its clusters are gone afterwards."""
    ssh = ssh_section(sandbox)
    variables = {f"SLURM_EDGE_NODE_{name.upper()}": str(value) for name, value in ssh.items()}
    yield {**os.environ, **variables, "SLURM_DEPLOYMENT_BASE_PATH": BASE}
    site = SlurmResource(ssh=SSHConnectionResource(**ssh), remote_base=BASE)
    compute = ComputeResource(mode="slurm-session", slurm=site)
    for cluster in compute.clusters():
        compute.cleanup_cluster(cluster.cluster_id)
    sandbox.run("rm", "-rf", BASE.replace("~", sandbox.info["users"]["user1"]["home"]))


def test_the_blocks_run_as_they_are_and_the_second_asset_finds_the_cluster_warm(
    project: Path, environment: dict[str, str], sandbox: RunningSandbox
) -> None:
    keys = ["cluster_id", "shards", "max_accuracy", "slurm_job_ids"]
    done = subprocess.run(
        [sys.executable, "project.py", *keys],
        cwd=project,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    first, second = said["train_model"], said["train_again"]
    assert (first["shards"], first["max_accuracy"]) == (4, 0.98)
    assert first["cluster_id"] == second["cluster_id"]
    assert first["cluster_id"].startswith("session-")
    assert f"Cluster {first['cluster_id']} of session session is warm" in done.stderr
    assert "Launching Ray jobs..." in done.stderr
    assert "RayLauncher.ray_version is 2.9.3, the Ray of cluster" in done.stderr

    # The head has no GPU, so the tasks, which need one each, ran on workers that Ray asked for.
    queue = sandbox.run("squeue", "-h", "--states=all", "-o", "%i %j %N").stdout.splitlines()
    ours = [line.split() for line in queue if f"ray:{first['cluster_id']}:worker:" in line]
    assert ours
    assert {host for _, _, host in ours} <= set(sandbox.info["hosts"])
    assert {job_id for job_id, _, _ in ours} & {
        i for a in said.values() for i in a["slurm_job_ids"]
    }
