"""Which kind of failure a step tells, from what Slurm and Ray really do to its payload."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_glue import (
    ComputeResource,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
    SSHConnectionResource,
)
from tests.dagster_glue.assets import failure_of
from tests.dagster_glue.edge import ssh_section
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

# Runs until it is ended, and leaves the id of the Slurm job it runs in.
ENDLESS = """
import os, sys, time
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes():
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(os.environ["SLURM_JOB_ID"])
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    time.sleep(600)
"""
QUIET = "from dagster_pipes import open_dagster_pipes\nwith open_dagster_pipes():\n    pass\n"


@pytest.fixture(scope="module")
def site(sandbox: RunningSandbox) -> Iterator[SlurmResource]:
    """Its clusters and its folder are gone afterwards."""
    base = Path(sandbox.info["users"]["user1"]["home"]) / "glue-failures"
    made = SlurmResource(
        ssh=SSHConnectionResource(**ssh_section(sandbox)),
        queue=SlurmQueueConfig(partition="compute", time_limit="00:10:00", mem="1G"),
        remote_base=str(base),
    )
    sandbox.run("mkdir", "-p", str(base))
    yield made
    compute = compute_of(made)
    for cluster in compute.clusters():
        compute.cleanup_cluster(cluster.cluster_id)
    shutil.rmtree(base, ignore_errors=True)


def compute_of(site: SlurmResource, **more: Any) -> ComputeResource:
    return ComputeResource(mode="slurm", slurm=site, **more)


def failure(compute: ComputeResource, payload: str, **arguments: Any) -> tuple[str, str]:
    """Kind and words of a payload's failure."""

    @dg.asset(name="failing")
    def asset(context):  # type: ignore[no-untyped-def]  # Dagster refuses its text
        compute.run(context, payload, **arguments)

    result = dg.materialize([asset], raise_on_error=False)
    found = failure_of(result, "failing")
    return str(found.metadata["failure_kind"].value), str(found.description)


def test_what_slurm_does_to_the_head_is_told_by_its_name(
    site: SlurmResource, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    base = Path(str(site.remote_base))
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    fillers: list[str] = []

    def run(kind: str, **opts: Any) -> tuple[str, str]:
        launcher = RayLauncher(num_cpus_per_node=1, max_workers=1, head_mem="1G", **opts)
        return failure(compute_of(site), f"{script} {base / kind}", launcher=launcher)

    def job_of(kind: str) -> str:
        wait_for((base / kind).exists, 90)
        return (base / kind).read_text()

    gpus = {"gres": "gpu:2", "nodelist": "n3"}
    with ThreadPoolExecutor(3) as pool:
        timeout = pool.submit(run, "walltime")
        cancelled = pool.submit(run, "cancelled")
        preempted = pool.submit(run, "preempted", head_slurm_opts={**gpus, "partition": "scavenge"})
        try:
            sandbox.run("scontrol", "update", f"JobId={job_of('walltime')}", "EndTime=now+1")
            sandbox.run("scancel", job_of("cancelled"))
            job_of("preempted")
            wanted = [f"--{name}={value}" for name, value in gpus.items()]
            filler = sandbox.run(
                "sbatch", "--parsable", "--mem=50", "--time=2", "--output=/dev/null", *wanted,
                "--partition=compute", "--wrap", "sleep 100",
            )  # fmt: skip
            fillers.append(filler.stdout.strip())
            told = [run.result(90) for run in (timeout, cancelled, preempted)]
            assert [kind for kind, _ in told] == ["walltime", "cancelled", "preempted"], told
        finally:
            for job in fillers:
                sandbox.run("scancel", job)


def test_what_slurm_refuses_and_an_environment_that_is_missing_leave_nothing(
    site: SlurmResource, tmp_path: Path
) -> None:
    (tmp_path / "payload.py").write_text(QUIET)
    payload = str(tmp_path / "payload.py")
    kind, words = failure(compute_of(site), payload, extra_slurm_opts={"partition": "nope"})
    assert kind == "refused"
    assert "nope" in words
    kind, words = failure(compute_of(site, pre_deployed_env_path="/no/such"), payload)
    assert kind == "environment"
    assert "/no/such" in words
    assert compute_of(site).clusters() == []


def test_a_queue_that_takes_too_long_is_left(site: SlurmResource, tmp_path: Path) -> None:
    (tmp_path / "payload.py").write_text(QUIET)

    @dg.asset(name="late")
    def asset(context):  # type: ignore[no-untyped-def]  # Dagster refuses its text
        compute = compute_of(site, queue_timeout=3)
        compute.run(context, str(tmp_path / "payload.py"), extra_slurm_opts={"begin": "now+1hour"})

    result = dg.materialize([asset], raise_on_error=False)
    data = result.failure_data_for_node("late")
    assert data is not None
    assert "did not start within queue_timeout (3 s); it was withdrawn" in str(data.error)
    assert compute_of(site).clusters() == []
