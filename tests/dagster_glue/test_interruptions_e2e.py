"""What may happen to a Dagster process outside Slurm, and to its connection, while a job runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dagster_glue import ComputeResource, SlurmResource, SSHConnectionResource
from tests.dagster_glue.edge import ssh_section
from tests.dagster_glue.outside import DagsterMachine
from tests.dagster_glue.outside_project import TALK
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

OUTAGE_S = 40.0
REBOOTS_S = (8.0, 15.0)
SUCCESS = dg.DagsterRunStatus.SUCCESS
FAILURE = dg.DagsterRunStatus.FAILURE
CANCELED = dg.DagsterRunStatus.CANCELED


@pytest.fixture(scope="module")
def base(sandbox: RunningSandbox) -> Iterator[Path]:
    """Nothing is left of it and its clusters."""
    path = Path(sandbox.info["users"]["user1"]["home"]) / "glue-outside"
    sandbox.run("mkdir", "-p", str(path))
    yield path
    compute = compute_at(path, sandbox)
    for cluster in compute.clusters():
        compute.cleanup_cluster(cluster.cluster_id)
    shutil.rmtree(path)


def compute_at(base: Path, sandbox: RunningSandbox) -> ComputeResource:
    """For a look at its clusters."""
    site = SlurmResource(ssh=SSHConnectionResource(**ssh_section(sandbox)), remote_base=str(base))
    return ComputeResource(mode="slurm", slurm=site)


@pytest.fixture(scope="module")
def machine(
    sandbox: RunningSandbox, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagsterMachine]:
    with DagsterMachine(sandbox, tmp_path_factory.mktemp("outside"), str(base)) as made:
        yield made


class Talk:
    """A run whose payload goes on until it is told to end."""

    def __init__(self, machine: DagsterMachine, base: Path, asset: str, name: str) -> None:
        self.machine, self.asset = machine, asset
        self.folder = base / name
        self.folder.mkdir()
        self.folder.chmod(0o777)
        self.script = self.folder / "talk.py"
        self.script.write_text(TALK)
        self.run_ids: list[str] = []

    def launch(self, **slurm_opts: str) -> Talk:
        config = {"payload": str(self.script), "folder": str(self.folder), "slurm_opts": slurm_opts}
        self.run_ids.append(self.machine.launch(self.asset, config))
        return self

    def retry_from_failure(self) -> None:
        self.run_ids.append(self.machine.retry_from_failure(self.run_id, self.asset))

    @property
    def run_id(self) -> str:
        return self.run_ids[-1]

    @property
    def starts(self) -> int:
        """How often its payload was started."""
        path = self.folder / "started"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def processes(self) -> list[str]:
        """Of its payload, on any host: all of them are this machine's."""
        of_payload = f"{self.script.name} {self.folder}$"
        return subprocess.run(
            ["pgrep", "-f", of_payload], capture_output=True, text=True
        ).stdout.split()

    def wait_for_payload(self) -> None:
        def runs() -> bool:
            assert self.machine.status(self.run_id) is not FAILURE, self.said()
            return self.starts > 0

        wait_for(runs, 90)

    def said(self) -> str:
        return "\n".join(self.machine.said(self.run_id))

    def wait_for_words(self, words: str, timeout_s: float = 60) -> None:
        wait_for(lambda: words in self.said(), timeout_s, poll_s=0.3)

    def finish(self) -> dg.DagsterRunStatus:
        (self.folder / "go").touch()
        return self.machine.wait_for_end(self.run_id)


def queue(sandbox: RunningSandbox) -> list[str]:
    """The Slurm jobs of clusters that belong to one asset."""
    names = sandbox.run("squeue", "-h", "-o", "%j").stdout.split()
    return [name for name in names if name.startswith("ray:on-its-own-")]


def clusters(base: Path) -> list[str]:
    return [path.name for path in (base / "clusters").glob("on-its-own-*")]


def test_neither_reboots_of_the_edge_node_nor_an_outage_nor_a_killed_step_lose_a_message(
    machine: DagsterMachine, base: Path
) -> None:
    steady = Talk(machine, base, "in_session", "steady").launch()
    killed = Talk(machine, base, "in_session", "killed").launch()
    steady.wait_for_words("No environment is configured")  # what comes next makes the cluster
    machine.edge.reboot(REBOOTS_S[0])
    for talk in (steady, killed):
        talk.wait_for_payload()
    machine.edge.reboot(REBOOTS_S[1])

    os.kill(machine.pid_of_step(killed.run_id), signal.SIGKILL)
    killed.wait_for_words("of an earlier attempt")
    assert killed.finish() is SUCCESS, killed.said()

    machine.unplug()
    time.sleep(OUTAGE_S)
    assert machine.status(steady.run_id) is dg.DagsterRunStatus.STARTED, steady.said()
    machine.plug()
    assert steady.finish() is SUCCESS, steady.said()
    assert "has requested a retry" in killed.said()
    assert "has requested a retry" not in steady.said()
    assert (steady.starts, killed.starts) == (1, 1)


def test_a_restart_is_no_cancel_and_the_run_that_retries_goes_on_with_the_job(
    machine: DagsterMachine, base: Path, sandbox: RunningSandbox
) -> None:
    talk = Talk(machine, base, "on_its_own", "restarted").launch()
    talk.wait_for_payload()
    for pid in (machine.pid_of_run(talk.run_id), machine.pid_of_step(talk.run_id)):
        os.kill(pid, signal.SIGTERM)
    assert machine.wait_for_end(talk.run_id) is FAILURE
    (cluster,) = clusters(base)

    talk.retry_from_failure()
    talk.wait_for_words("of an earlier attempt")
    assert clusters(base) == [cluster]
    assert talk.finish() is SUCCESS, talk.said()
    assert talk.starts == 1
    wait_for(lambda: not queue(sandbox))
    assert clusters(base) == []


def test_cancelling_stops_the_job_and_leaves_no_cluster_but_a_session_s(
    machine: DagsterMachine, base: Path, sandbox: RunningSandbox
) -> None:
    queued = Talk(machine, base, "on_its_own", "queued").launch(begin="now+1hour")
    running = Talk(machine, base, "on_its_own", "cancelled").launch()
    shared = Talk(machine, base, "in_session", "shared").launch()
    queued.wait_for_words("its earliest start time")
    queued.wait_for_words("(expected start ")
    for talk in (running, shared):
        talk.wait_for_payload()
        assert talk.processes()
    assert len(queue(sandbox)) >= 2
    for talk in (running, queued, shared):
        machine.cancel(talk.run_id)
    for talk in (running, queued, shared):
        assert machine.wait_for_end(talk.run_id) is CANCELED, talk.said()
    for talk in (running, shared):
        assert "stopping Ray job" in talk.said()
        assert "has not ended within" not in talk.said()
        wait_for(lambda talk=talk: not talk.processes())
    (session,) = [c for c in compute_at(base, sandbox).clusters() if c.mode == "slurm-session"]
    assert not any(shared.run_id in lease.holder for lease in session.leases)
    assert ("head", "RUNNING") in [(job.kind, job.state) for job in session.slurm_jobs]
    wait_for(lambda: not queue(sandbox))
    assert clusters(base) == []
