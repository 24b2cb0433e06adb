"""Mode local, for real: the reference's blocks on a Ray runtime of this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import ray

from dagster_glue import (
    BashLauncher,
    ClusterInfo,
    ComputeResource,
    ConfigError,
    ExecutionMode,
    Launcher,
    RayLauncher,
)
from dagster_glue.acquire import local_options
from dagster_glue.clusters.local import LocalCluster
from tests.dagster_glue.assets import failure_of, metadata_of, plain, train_model
from tests.dagster_glue.local_runtime import end_unless_used
from tests.dagster_glue.payloads import write_payloads

OF_AN_OP = """
import sys
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    pipes.report_custom_message(sys.argv[1:])
"""
DEFAULT = RayLauncher(num_cpus_per_node=1, num_gpus_per_node=2, object_store_memory_gb=0.1)


@pytest.fixture(scope="module")
def runtime() -> Iterator[LocalCluster]:
    """The one that all tests here share, gone after them."""
    cluster = LocalCluster.start(**local_options([DEFAULT], os.cpu_count() or 1))
    yield cluster
    end_unless_used(cluster)


@pytest.fixture
def compute(
    runtime: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ComputeResource:
    write_payloads(tmp_path)
    monkeypatch.chdir(tmp_path)
    return ComputeResource(mode=ExecutionMode.LOCAL, default_launcher=DEFAULT)


def test_ray_and_bash_assets_run_on_one_runtime(
    compute: ComputeResource, runtime: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    assets = [train_model(ray_version="2.9.3"), plain("a", "'b c'")]
    result = dg.materialize(assets, resources={"compute": compute})

    trained, said = metadata_of(result, "train_model"), metadata_of(result, "plain")
    assert (trained["shards"], trained["max_accuracy"]) == (4, 0.98)
    assert trained["experiment"] == result.run_id
    assert said["arguments"] == ["a", "b c"]
    assert (said["greeting"], said["beside"]) == ("hello you", "here")
    assert {trained["cluster_id"], said["cluster_id"]} == {runtime.cluster_id}
    assert Path(trained["run_log"]).is_file()
    words = f"RayLauncher.ray_version is 2.9.3, the Ray of cluster {runtime.cluster_id} is"
    assert f"{words} {ray.__version__}: change one of the two" in capfd.readouterr().err


def test_a_payload_s_exception_fails_the_step_with_its_kind_and_traceback(
    compute: ComputeResource,
) -> None:
    result = dg.materialize([plain("fail")], resources={"compute": compute}, raise_on_error=False)
    failure = failure_of(result, "plain")
    assert failure.description is not None
    assert failure.description.startswith("[payload]")
    assert "ValueError: no such luck" in failure.description
    assert {"cluster_id", "ray_submission_id", "run_log"} <= failure.metadata.keys()


def test_a_payload_that_leaves_pipes_open_is_a_failure_unless_that_was_asked_for(
    compute: ComputeResource,
) -> None:
    result = dg.materialize([plain("leave")], resources={"compute": compute}, raise_on_error=False)
    failure = failure_of(result, "plain")
    assert failure.metadata["failure_kind"].value == "payload"
    assert "the Ray job succeeded, but it did not close Dagster Pipes" in str(failure.description)
    lenient = ComputeResource(mode="local", default_launcher=DEFAULT, strict=False)
    assert dg.materialize([plain("leave")], resources={"compute": lenient}).success


def test_each_op_of_a_job_runs_payloads_with_launchers_of_its_own(
    compute: ComputeResource, tmp_path: Path
) -> None:
    (tmp_path / "op.py").write_text(OF_AN_OP)

    def step(name: str, launcher: Launcher) -> dg.OpDefinition:
        @dg.op(name=name, required_resource_keys={"compute"})
        def run(context) -> Any:  # type: ignore[no-untyped-def]  # Dagster refuses its text
            done = context.resources.compute.run(context, f"op.py {name}", launcher=launcher)
            return list(done.get_custom_messages())

        return run

    @dg.job(resource_defs={"compute": compute})
    def both() -> None:
        step("plain", BashLauncher())()
        step("on_ray", DEFAULT)()

    result = both.execute_in_process()
    assert result.output_for_node("plain") == [["plain"]]
    assert result.output_for_node("on_ray") == [["on_ray"]]


def test_another_ray_is_an_error_where_that_was_asked_for(compute: ComputeResource) -> None:
    launcher = {"ray_version": "2.9.3", "require_ray_version": True}
    with pytest.raises(dg.Failure, match=r"^\[refused\] .*ray_version is 2\.9\.3, the Ray of"):
        dg.materialize([train_model(**launcher)], resources={"compute": compute})


def test_an_existing_cluster_is_used_by_its_address(
    compute: ComputeResource, runtime: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = runtime.open_jobs()
    token = connection.headers["Authorization"].removeprefix("Bearer ")
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    result = dg.materialize(
        [train_model(ray_address=connection.address)], resources={"compute": compute}
    )
    trained = metadata_of(result, "train_model")
    assert trained["shards"] == 4
    assert trained["cluster_id"].startswith("127-0-0-1-")


def test_the_runtime_is_listed_with_its_users_and_ended_by_its_id(
    compute: ComputeResource, runtime: LocalCluster
) -> None:
    def listed() -> list[ClusterInfo]:
        return [each for each in compute.clusters() if each.cluster_id == runtime.cluster_id]

    (info,) = listed()
    assert (info.mode, info.slurm_jobs, info.is_leased) == ("local", (), True)
    assert f"{socket.gethostname()}:{os.getpid()}" in [lease.holder for lease in info.leases]
    assert datetime.now(timezone.utc) - info.since < timedelta(hours=1)
    compute.cleanup_cluster(runtime.cluster_id)
    assert listed() == []
    with pytest.raises(ConfigError, match=runtime.cluster_id):
        compute.cleanup_cluster(runtime.cluster_id)
