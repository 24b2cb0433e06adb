"""Mode slurm-session, for real: Dagster processes outside Slurm share clusters over SSH."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_glue import ClusterInfo, ComputeResource, ConfigError
from tests.dagster_glue.edge import ssh_section
from tests.dagster_glue.session_step import compute_of, started
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

BASE = "~/glue-sessions"
LAUNCHER = {"num_cpus_per_node": 2, "max_workers": 1, "head_mem": "1200M"}


@pytest.fixture(scope="module")
def spec(sandbox: RunningSandbox) -> Iterator[dict[str, Any]]:
    """A session whose cluster the tests share; all are gone afterwards."""
    made = {
        "ssh": ssh_section(sandbox),
        "base": BASE,
        "session": {"name": "shared", "cluster_idle_timeout": 300},
        "launcher": LAUNCHER,
    }
    yield made
    compute = compute_of(made)
    for cluster in compute.clusters():
        compute.cleanup_cluster(cluster.cluster_id)
    sandbox.run("rm", "-rf", BASE.replace("~", sandbox.info["users"]["user1"]["home"]))


@pytest.fixture(scope="module")
def compute(spec: dict[str, Any]) -> ComputeResource:
    return compute_of(spec)


def cluster(compute: ComputeResource, cluster_id: str) -> ClusterInfo | None:
    return {each.cluster_id: each for each in compute.clusters()}.get(cluster_id)


def jobs(sandbox: RunningSandbox, cluster_id: str) -> list[str]:
    """The names of its jobs; of several clusters by how their ids begin."""
    queue = sandbox.run("squeue", "-h", "-o", "%j").stdout.split()
    return [name for name in queue if name.startswith(f"ray:{cluster_id}")]


def heads(sandbox: RunningSandbox, session: str) -> list[str]:
    return [name for name in jobs(sandbox, f"{session}-") if ":head:" in name]


@pytest.fixture(scope="module")
def first(spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the process said that made the shared cluster, and has ended."""
    with started(spec, tmp_path_factory.mktemp("first") / "log") as step:
        said = step.metadata()
        assert step.says("is asked for")
        return said


def test_another_process_finds_the_cluster_warm_and_it_stays(
    spec: dict[str, Any],
    first: dict[str, Any],
    compute: ComputeResource,
    sandbox: RunningSandbox,
    tmp_path: Path,
) -> None:
    idle = cluster(compute, first["cluster_id"])
    assert idle is not None
    assert (idle.mode, idle.is_leased, idle.leases) == ("slurm-session", False, ())
    with started({**spec, "work_s": 3}, tmp_path / "log") as step:
        wait_for(lambda: step.says("the payload runs"), 60)
        used = cluster(compute, first["cluster_id"])
        assert used is not None
        assert used.is_leased
        (lease,) = used.leases
        assert lease.holder.startswith("work of run ")
        assert 0 <= lease.age_s < 60
        second = step.metadata()
        assert step.says("is warm: Ray runs on ")
    assert second["cluster_id"] == first["cluster_id"]
    assert second["slurm_job_ids"] == first["slurm_job_ids"]
    assert second["host"] in sandbox.info["hosts"]
    (head,) = idle.slurm_jobs
    assert (head.job_id, head.kind, head.state) == (first["slurm_job_ids"][0], "head", "RUNNING")
    assert head.host in sandbox.info["hosts"]


def test_who_asks_for_less_finds_the_larger_cluster_if_reuse_is_enabled(
    spec: dict[str, Any], first: dict[str, Any], tmp_path: Path
) -> None:
    smaller = {**LAUNCHER, "num_cpus_per_node": 1, "head_mem": "1G"}
    asked = {**spec, "override": smaller, "reuse": True}
    with started(asked, tmp_path / "log") as step:
        assert step.metadata()["cluster_id"] == first["cluster_id"]


def test_processes_that_ask_at_once_make_one_cluster_and_of_killed_ones_only_payloads_go_on(
    spec: dict[str, Any], compute: ComputeResource, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    base = Path(BASE.replace("~", sandbox.info["users"]["user1"]["home"]))
    session = {"name": "twice", "cluster_idle_timeout": 3}
    asked = {**spec, "session": session, "lease_ttl_s": 6, "unleased_timeout_s": 3}
    lasting = {**asked, "work_s": 20}
    with (
        started(asked, tmp_path / "one") as one,
        started(lasting, tmp_path / "two") as two,
        started({**lasting, "mode": "slurm"}, tmp_path / "alone") as alone,
    ):
        killed = {}
        for step in (two, alone):
            wait_for(lambda step=step: step.says("the payload runs"), 60)
            killed[step] = step.cluster_id()
            info = cluster(compute, killed[step])
            assert info is not None
            assert info.is_leased
            os.killpg(step.process.pid, signal.SIGKILL)
            step.process.wait()
        assert one.metadata()["cluster_id"] == killed[two]
        assert len(heads(sandbox, "twice")) == 1

    for name in killed.values():
        wait_for(lambda name=name: cluster(compute, name) is None, 60, poll_s=0.5)
        assert not (base / "clusters" / name).exists()
        wait_for(lambda name=name: not jobs(sandbox, name))
    for step in killed:
        (run,) = (base / "runs").glob(f"{step.run_id()}-*")
        assert '"exit_code": 0' in (run / "status.jsonl").read_text()
        assert '"closed"' in (run / "messages.jsonl").read_text()


def test_a_cluster_is_ended_by_its_id_and_an_unknown_id_is_refused(
    first: dict[str, Any], compute: ComputeResource, sandbox: RunningSandbox
) -> None:
    name = first["cluster_id"]
    with pytest.raises(ConfigError, match=f"no cluster 'shared-0'.*there are: .*{name}"):
        compute.cleanup_cluster("shared-0")
    compute.cleanup_cluster(name)
    assert cluster(compute, name) is None
    assert heads(sandbox, "shared") == []
    home = sandbox.info["users"]["user1"]["home"]
    assert name not in sandbox.run("ls", f"{BASE.replace('~', home)}/clusters").stdout.split()


def test_ctrl_c_in_a_foreground_process_ends_a_cluster_of_one_asset(
    spec: dict[str, Any], compute: ComputeResource, tmp_path: Path
) -> None:
    with started({**spec, "mode": "slurm", "work_s": 600}, tmp_path / "log") as step:

        def of_asset() -> list[ClusterInfo]:
            return [each for each in compute.clusters() if each.mode == "slurm"]

        wait_for(lambda: step.says("the payload runs"), 60)
        assert of_asset()[0].is_leased
        step.process.send_signal(signal.SIGINT)
        step.process.wait(60)
        assert of_asset() == []
