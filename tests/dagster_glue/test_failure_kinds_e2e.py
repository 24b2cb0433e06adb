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
from dagster_glue.clusters import worker_news
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
# An actor that leaves the host where it is, and never ends.
ACTOR = """
import os, socket, sys, time

import ray
from dagster_pipes import open_dagster_pipes


@ray.remote(num_cpus=1)
class Actor:
    def work(self, path):
        with open(path + ".new", "w") as file:
            file.write(socket.gethostname())
        os.rename(path + ".new", path)
        time.sleep(600)


with open_dagster_pipes():
    ray.init(address="auto")
    actor = Actor.remote()
    ray.get(actor.work.remote(sys.argv[1]))
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


def failure(
    compute: ComputeResource,
    payload: str,
    *,
    instance: dg.DagsterInstance | None = None,
    **arguments: Any,
) -> tuple[str, str]:
    """Kind and words of a payload's failure."""

    @dg.asset(name="failing")
    def asset(context):  # type: ignore[no-untyped-def]  # Dagster refuses its text
        compute.run(context, payload, **arguments)

    result = dg.materialize([asset], raise_on_error=False, instance=instance)
    assert result.asset_materializations_for_node("failing") == []
    found = failure_of(result, "failing")
    return str(found.metadata["failure_kind"].value), str(found.description)


def test_what_slurm_does_to_the_head_is_told_by_its_name_and_meanwhile_which_workers_wait(
    site: SlurmResource, sandbox: RunningSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_news, "FIRST_LOOK_S", 2.0)
    monkeypatch.setattr(worker_news, "LOOK_S", 2.0)
    (tmp_path / "watched").mkdir()
    watched = dg.DagsterInstance.local_temp(str(tmp_path / "watched"))
    base = Path(str(site.remote_base))
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    fillers: list[str] = []

    def run(kind: str, instance: dg.DagsterInstance | None = None, **opts: Any) -> tuple[str, str]:
        launcher = RayLauncher(num_cpus_per_node=1, max_workers=1, head_mem="1G", **opts)
        payload = f"{script} {base / kind}"
        return failure(compute_of(site), payload, launcher=launcher, instance=instance)

    def job_of(kind: str) -> str:
        wait_for((base / kind).exists, 90)
        return (base / kind).read_text()

    gpus = {"gres": "gpu:2", "nodelist": "n3"}
    with ThreadPoolExecutor(3) as pool:
        timeout = pool.submit(run, "walltime")
        never = {"begin": "now+1hour"}
        cancelled = pool.submit(run, "cancelled", watched, min_workers=1, slurm_opts=never)
        preempted = pool.submit(run, "preempted", head_slurm_opts={**gpus, "partition": "scavenge"})
        try:
            sandbox.run("scontrol", "update", f"JobId={job_of('walltime')}", "EndTime=now+1")
            doomed = job_of("cancelled")
            wait_for(lambda: waiting_workers(watched), 40)
            sandbox.run("scancel", doomed)
            job_of("preempted")
            wanted = [f"--{name}={value}" for name, value in gpus.items()]
            filler = sandbox.run(
                "sbatch", "--parsable", "--mem=50", "--time=2", "--output=/dev/null", *wanted,
                "--partition=compute", "--wrap", "sleep 100",
            )  # fmt: skip
            fillers.append(filler.stdout.strip())
            told = [run.result(90) for run in (timeout, cancelled, preempted)]
            assert [kind for kind, _ in told] == ["walltime", "cancelled", "preempted"], told
            (said,) = waiting_workers(watched)
            assert "Workers of type 'worker' wait in Slurm's queue: " in said
            assert "its earliest start time" in said
            assert "(expected start " in said
        finally:
            for job in fillers:
                sandbox.run("scancel", job)


def waiting_workers(instance: dg.DagsterInstance) -> list[str]:
    """What the one run's events say of workers."""
    entries = [entry for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    return [entry.user_message for entry in entries if "Workers of type" in entry.user_message]


def test_what_slurm_refuses_and_an_environment_that_does_not_do_leave_nothing(
    site: SlurmResource, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    (tmp_path / "payload.py").write_text(QUIET)
    payload = str(tmp_path / "payload.py")
    without_ray = f"{site.remote_base}/without-ray"
    activate = "mkdir -p {0} && echo 'PATH=/usr/bin:/bin' > {0}/activate.sh"
    sandbox.run("sh", "-c", activate.format(without_ray))
    launcher = RayLauncher(head_mem="1G", max_workers=0)
    compute = compute_of(site, pre_deployed_env_path=without_ray)
    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(failure, compute, payload, launcher=launcher)
        kind, words = failure(compute_of(site), payload, extra_slurm_opts={"partition": "nope"})
        assert kind == "refused"
        assert "nope" in words
        kind, words = failure(compute_of(site, pre_deployed_env_path="/no/such"), payload)
        assert kind == "environment"
        assert "/no/such" in words
        kind, words = broken.result(90)
        assert kind == "environment"
        assert "there is no 'ray' on PATH of n" in words
    assert compute_of(site).clusters() == []


def test_a_head_that_never_leaves_the_queue_says_why(
    site: SlurmResource, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    (tmp_path / "payload.py").write_text(QUIET)
    payload, later = str(tmp_path / "payload.py"), {"begin": "now+1hour"}

    def queued() -> list[str]:
        lines = sandbox.run("squeue", "-h", "-t", "PD", "-o", "%i %k %j").stdout.splitlines()
        return [line.split()[0] for line in lines if "ray:failing-" in line]

    with ThreadPoolExecutor(1) as pool:
        cancelled = pool.submit(failure, compute_of(site), payload, extra_slurm_opts=later)
        (job,) = wait_for(queued, 60)
        sandbox.run("scancel", job)
        kind, words = cancelled.result(90)
    assert kind == "cancelled"
    assert "ended: cancelled" in words
    compute = compute_of(site, queue_timeout=3)
    kind, words = failure(compute, payload, extra_slurm_opts=later)
    assert kind == "queue_timeout"
    assert "did not start within queue_timeout (3 s) and was withdrawn: job " in words
    assert compute.clusters() == []


def test_a_host_that_loses_power_is_told_be_it_the_head_s_or_a_worker_s(
    site: SlurmResource, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    safe, *_, doomed = sorted(sandbox.info["hosts"])
    base = Path(str(site.remote_base))
    head, worker = base / "power-head", base / "power-worker"
    (tmp_path / "head.py").write_text(ENDLESS)
    (tmp_path / "worker.py").write_text(ACTOR)
    there = {"nodelist": doomed}
    on_head = RayLauncher(max_workers=0, head_mem="1G", head_slurm_opts=there)
    on_worker = RayLauncher(
        num_cpus_per_node=1, max_workers=1, head_mem="1200M",
        slurm_opts=there, head_slurm_opts={"nodelist": safe},
    )  # fmt: skip
    compute = compute_of(site)
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(failure, compute, f"{tmp_path}/head.py {head}", launcher=on_head),
            pool.submit(failure, compute, f"{tmp_path}/worker.py {worker}", launcher=on_worker),
        ]
        wait_for(lambda: head.exists() and worker.exists(), 120)
        assert worker.read_text() == doomed
        try:
            sandbox.control("kill", doomed)
            # Slurm sees it after 30 s (SlurmdTimeout) and more, Ray after about a minute.
            told = [run.result(150) for run in runs]
        finally:
            sandbox.control("start", doomed)
    assert [kind for kind, _ in told] == ["node_failed", "node_failed"], told
    assert "node fail" in told[0][1]
    assert "ActorDiedError" in told[1][1]
    assert "Slurm: node " in told[1][1] and "node fail" in told[1][1]
