"""A head that waits in the queue while nobody wants it any more: what cannot end by itself."""

# Annotations are not postponed here: Dagster refuses a `context` that is annotated by a string.

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
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
    build_reap_job,
    build_reap_sensor,
)
from tests.dagster_glue.edge import ssh_section
from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

BASE = "~/glue-reaping"

# The Dagster process that asks for a cluster and is killed while the cluster waits.
ASKS = """
import json, sys
import dagster as dg
from tests.dagster_glue.test_reaping_e2e import wanted

@dg.asset(required_resource_keys={"compute"})
def waits(context):
    return context.resources.compute.run(context, "python -c pass").get_materialize_result()

dg.materialize([waits], resources={"compute": wanted(json.loads(sys.argv[1]))})
"""


def wanted(ssh: dict[str, object]) -> ComputeResource:
    """A cluster that stays in the queue."""
    later = {"begin": "now+1hour"}
    return ComputeResource(
        mode=ExecutionMode.SLURM,
        slurm=SlurmResource(
            ssh=SSHConnectionResource(**ssh),
            queue=SlurmQueueConfig(partition="compute", mem="1000M", extra_slurm_opts=later),
            remote_base=BASE,
        ),
        default_launcher=RayLauncher(num_cpus_per_node=1, head_mem="1000M"),
    )


@pytest.fixture
def compute(sandbox: RunningSandbox) -> Iterator[ComputeResource]:
    made = wanted(ssh_section(sandbox))
    yield made
    for cluster in made.clusters():
        made.cleanup_cluster(cluster.cluster_id)
    sandbox.run("rm", "-rf", folder(sandbox))


def folder(sandbox: RunningSandbox) -> str:
    return BASE.replace("~", str(sandbox.info["users"]["user1"]["home"]))


@contextlib.contextmanager
def asking(sandbox: RunningSandbox, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-c", ASKS, json.dumps(ssh_section(sandbox))]
    with open(tmp_path / "asking.log", "wb") as log:
        process = subprocess.Popen(
            argv, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_queued_head_of_a_killed_process_is_removed_once_its_lease_has_run_out(
    compute: ComputeResource, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    def waiting() -> list[str]:
        return [c.cluster_id for c in compute.clusters() if c.slurm_jobs]

    with asking(sandbox, tmp_path) as process:
        assert wait_for(waiting, timeout_s=40) != []
        process.send_signal(signal.SIGKILL)
        process.wait()
    (cluster_id,) = waiting()

    # Its lease still runs: nothing is due, and who asks for the removal is refused.
    sensor = build_reap_sensor(grace_s=0)
    looked = looks(sensor, compute, looks(sensor, compute, None).cursor)
    assert looked.run_requests == []
    config = {"ops": {"remove_unleased_clusters": {"config": {"cluster_ids": [cluster_id]}}}}
    assert reaped(compute, config) == []
    assert waiting() == [cluster_id]

    # As when its time is over.
    sandbox.run("rm", "-r", f"{folder(sandbox)}/clusters/{cluster_id}/leases")
    first = looks(sensor, compute, looked.cursor)
    assert first.run_requests == []
    second = looks(sensor, compute, first.cursor)
    (request,) = second.run_requests or []
    assert reaped(compute, request.run_config) == [cluster_id]
    assert compute.clusters() == []
    jobs = sandbox.run("squeue", "-h", "-o", "%j").stdout.split()
    assert [name for name in jobs if cluster_id in name] == []


def looks(sensor: dg.SensorDefinition, compute: ComputeResource, cursor: str | None) -> Any:
    with dg.build_sensor_context(cursor=cursor, resources={"compute": compute}) as context:
        return sensor.evaluate_tick(context)


def reaped(compute: ComputeResource, config: Mapping[str, Any]) -> list[str]:
    job = build_reap_job()
    result = job.execute_in_process(run_config=dict(config), resources={"compute": compute})
    return list(result.output_for_node("remove_unleased_clusters"))
