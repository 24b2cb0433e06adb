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


def run(program: str, slurm: SlurmPrograms, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *argv],
        env={**os.environ, "PATH": f"{slurm.bin}:{os.environ['PATH']}", "PYTHONPATH": ""},
        capture_output=True, text=True, timeout=60, cwd=argv[0] + "/..",
    )  # fmt: skip


def test_a_cluster_made_anew_in_the_folder_keeps_its_workers(tmp_path: Path) -> None:
    slurm = SlurmPrograms(tmp_path)
    store = ClusterStore(LocalTransport(), str(tmp_path / "cluster"))
    store.create("demo")
    code = store.install_code()
    config = json.dumps({"cluster_name": "demo", "provider": {"_on_head": True}})
    Path(store.paths.root, "bootstrap.json").write_text(config)
    identity = JobIdentity("demo", "cpu", "anewanew", WORKER, "aaaaaaaaaa", 0)
    slurm.add_job(identity.job_name, "1", state="PENDING", nodelist="")
    anew = json.dumps({"uuid": "anewanew", "name": "demo"})
    program = _PROGRAM.format(checkout=_CHECKOUT).replace(
        "shutil.rmtree(root)", f"open(root + '/cluster.json', 'w').write({anew!r})"
    )

    done = run(program, slurm, store.paths.root, code)

    assert done.stdout.strip() == "withdrawn", done.stdout + done.stderr
    assert slurm.calls("scancel") == []


def test_they_are_withdrawn_also_after_the_folder_was_removed(tmp_path: Path) -> None:
    slurm = SlurmPrograms(tmp_path)
    store = ClusterStore(LocalTransport(), str(tmp_path / "cluster"))
    uuid, code = store.create("demo"), store.install_code()
    config = {"cluster_name": "demo", "provider": {"_on_head": True}}
    Path(store.paths.root, "bootstrap.json").write_text(json.dumps(config))
    for job_id, kind, cluster in [("1", HEAD, uuid), ("2", WORKER, uuid), ("3", WORKER, "x")]:
        identity = JobIdentity("demo", "cpu", cluster, kind, "aaaaaaaaaa", 0)
        slurm.add_job(identity.job_name, job_id, state="PENDING", nodelist="")

    done = run(_PROGRAM.format(checkout=_CHECKOUT), slurm, store.paths.root, code)

    assert done.stdout.strip() == "withdrawn", done.stdout + done.stderr
    (call,) = slurm.calls("scancel")
    assert call["argv"][1:] == ["2"]
