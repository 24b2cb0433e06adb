"""A head withdraws the cluster's worker jobs, whatever has become of the cluster's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from slurm_provider.fleet.identity import HEAD, WORKER, JobIdentity
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import LocalTransport
from tests.slurm_provider.fake_slurm.programs import SlurmPrograms

_CHECKOUT = str(Path(__file__).parents[3])

# As a job's agent: from the archive in the cluster's folder.
_PROGRAM = """
import shutil, sys
root, code = sys.argv[1:]
sys.path[:] = [code, *(path for path in sys.path if path != {checkout!r})]
from slurm_provider.agent.worker_jobs import WorkerJobs
from slurm_provider.cluster_paths import ClusterPaths
jobs = WorkerJobs(ClusterPaths(root), root + "/bootstrap.json")
assert "slurm_provider-" in sys.modules[WorkerJobs.__module__].__file__
jobs.learn()
shutil.rmtree(root)
assert jobs.is_known
print("withdrawn" if jobs.withdraw(5.0) else "no answer")
"""


def test_they_are_withdrawn_also_after_the_folder_was_removed(tmp_path: Path) -> None:
    slurm = SlurmPrograms(tmp_path)
    store = ClusterStore(LocalTransport(), str(tmp_path / "cluster"))
    uuid, code = store.create("demo", with_token=False), store.install_code()
    config = {"cluster_name": "demo", "provider": {"_on_head": True}}
    Path(store.paths.root, "bootstrap.json").write_text(json.dumps(config))
    for job_id, kind, cluster in [("1", HEAD, uuid), ("2", WORKER, uuid), ("3", WORKER, "x")]:
        identity = JobIdentity("demo", "cpu", cluster, kind, "aaaaaaaaaa", 0)
        slurm.add_job(identity.job_name, job_id, state="PENDING", nodelist="")

    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(checkout=_CHECKOUT), store.paths.root, code],
        env={**os.environ, "PATH": f"{slurm.bin}:{os.environ['PATH']}", "PYTHONPATH": ""},
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip

    assert done.stdout.strip() == "withdrawn", done.stdout + done.stderr
    (call,) = slurm.calls("scancel")
    assert call["argv"][1:] == ["2"]
