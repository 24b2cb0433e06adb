"""What a person sees of a run on Slurm while it runs, and what is left of one that failed."""

import contextlib
import http.client
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
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
from tests.e2e.dashboard import Links
from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

PAYLOAD = """
import os
import sys
import time

import ray
from dagster_pipes import open_dagster_pipes


@ray.remote(num_cpus=0.3, max_calls=1)  # each in a process of its own
def work():
    print("a worker's line", flush=True)


with open_dagster_pipes():
    ray.init(address="auto")
    ray.get([work.remote() for _ in range(3)])
    print("driver: on its way", flush=True)
    print("driver: no harm done", file=sys.stderr, flush=True)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.2)
    raise ValueError("no such luck")
"""
DEFINITIONS = """
import os

import dagster as dg

from dagster_glue import (
    ComputeResource, RayLauncher, SlurmQueueConfig, SlurmResource, SSHConnectionResource,
)


@dg.asset
def watched(context: dg.AssetExecutionContext, compute: ComputeResource):
    return compute.run(context, f"payload.py {os.environ['GO']}").get_materialize_result()


compute = ComputeResource(
    mode=os.environ["MODE"],
    slurm=SlurmResource(
        ssh=SSHConnectionResource.from_env(prefix="SLURM_EDGE_NODE_"),
        queue=SlurmQueueConfig(partition="compute", time_limit="00:10:00", mem="1G"),
        remote_base=os.environ["BASE"],
    ),
    default_launcher=RayLauncher(
        num_cpus_per_node=1, head_mem="1500M", max_workers=1, idle_timeout=8
    ),
    all_worker_logs=True,
    log_events=True,
)
if __name__ == "__main__":
    instance = dg.DagsterInstance.get()
    dg.materialize(
        [watched], resources={"compute": compute}, instance=instance, raise_on_error=False
    )
"""


class Run:
    """A Dagster process of its own, its storage, and the run's files on the cluster."""

    def __init__(self, sandbox: RunningSandbox, folder: Path, mode: str) -> None:
        home = Path(sandbox.info["users"]["user1"]["home"])
        self.base = home / f"glue-observed-{mode}"
        self.go = self.base / "go"
        self._home = folder / "dagster"
        self._home.mkdir()
        (folder / "payload.py").write_text(PAYLOAD)
        (folder / "definitions.py").write_text(DEFINITIONS)
        ssh = ssh_section(sandbox)
        self._env = {
            **os.environ,
            **{f"SLURM_EDGE_NODE_{name.upper()}": str(value) for name, value in ssh.items()},
            "DAGSTER_HOME": str(self._home),
            "BASE": str(self.base),
            "GO": str(self.go),
            "MODE": mode,
            "PYTHONPATH": str(ROOT),
        }
        self.log = folder / "dagster.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "definitions.py"],
                cwd=folder, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(self._home))

    def compute_log(self, stream: str) -> str:
        """What Dagster shows as the step's ``out`` or ``err`` by now."""
        found = list(self._home.glob(f"storage/*/compute_logs/*.{stream}*"))
        return "".join(path.read_text() for path in found)

    def wait_for_output(self, stream: str, words: str) -> None:
        def printed() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return words in self.compute_log(stream)

        wait_for(printed, 120, poll_s=0.3)

    def events(self) -> list[dg.EventLogEntry]:
        with self.instance() as instance:
            (run,) = instance.get_runs()
            return list(instance.all_logs(run.run_id))

    def events_lines(self) -> set[str]:
        """Every line of every event."""
        return {line for event in self.events() for line in event.user_message.splitlines()}

    def failure(self) -> dict[str, Any]:
        """The metadata of the step's failure, once the process has ended."""
        self.process.wait(120)
        (failed,) = [event.dagster_event for event in self.events()
                     if event.dagster_event and event.dagster_event.is_step_failure]  # fmt: skip
        data = failed.step_failure_data.user_failure_data
        assert data is not None, failed.step_failure_data.error_display_string
        return {name: value.value for name, value in data.metadata.items()}

    def end(self) -> None:
        """However far it came."""
        self.base.mkdir(exist_ok=True)
        self.go.touch()
        try:
            self.process.wait(120)
        finally:
            self.process.kill()
            shutil.rmtree(self.base, ignore_errors=True)


@pytest.fixture
def start_run(sandbox: RunningSandbox, tmp_path: Path) -> Iterator[Callable[[str], Run]]:
    """Start one in a mode."""
    started: list[Run] = []

    def start(mode: str) -> Run:
        started.append(Run(sandbox, tmp_path, mode))
        return started[0]

    yield start
    for run in started:
        run.end()


def test_output_and_dashboard_are_there_while_it_runs_and_logs_when_it_failed(
    start_run: Callable[[str], Run],
) -> None:
    run = start_run("slurm")
    run.wait_for_output("out", "driver: on its way")
    run.wait_for_output("err", "driver: no harm done")
    # Each of the three, where Ray by itself would show one and "repeated 2x".
    wait_for(lambda: run.compute_log("out").count("a worker's line") == 3)
    assert "repeated" not in run.compute_log("out")
    wait_for(lambda: {"driver: on its way", "driver: no harm done"} <= run.events_lines())

    (said,) = [e.user_message for e in run.events() if "Ray's dashboard" in e.user_message]
    command = shlex.split(said.partition(": ")[2])
    assert command[:2] == ["ray-slurm", "dashboard"]
    with contextlib.closing(Links(*command[2:])) as links:
        assert jobs_seen_through(links.wait_for(0)) == 1
        assert links.interrupt() == 0

    run.go.touch()
    metadata = run.failure()
    assert metadata["failure_kind"] == "payload"
    assert metadata["ray_dashboard"].startswith("gone")
    run_log, ray_logs = Path(metadata["run_log"]), Path(metadata["ray_logs"])
    assert run_log.is_relative_to(run.base) and ray_logs.is_relative_to(run.base)
    assert "ValueError: no such luck" in run_log.read_text()
    kept = {node.name: {path.name for path in node.iterdir()} for node in ray_logs.iterdir()}
    assert len(kept) == 2, kept  # the head and the worker
    assert all({"job.log", "raylet.out"} <= names for names in kept.values()), kept
    assert any("gcs_server.out" in names for names in kept.values()), kept
    assert any(name.startswith("worker-") for names in kept.values() for name in names), kept
    assert sum(path.stat().st_size for path in ray_logs.rglob("*")) < 20 << 20


def test_a_sessions_head_goes_on_after_a_failure_and_still_the_logs_of_all_are_kept(
    sandbox: RunningSandbox, start_run: Callable[[str], Run]
) -> None:
    run = start_run("slurm-session")
    compute = compute_of(sandbox, run.base, "slurm-session")
    try:
        run.wait_for_output("out", "driver: on its way")
        run.go.touch()
        metadata = run.failure()
        assert metadata["failure_kind"] == "payload"
        kept = Path(metadata["ray_logs"])
        # The head and the worker look for what is asked of them every five seconds.
        wait_for(lambda: len(list(kept.glob("*/raylet.out"))) == 2, 30)
        command = shlex.split(metadata["ray_dashboard"].strip("`"))
        with contextlib.closing(Links(*command[2:])) as links:
            assert jobs_seen_through(links.wait_for(0)) == 1
        # Nobody needs the worker any more.
        wait_for(lambda: [j.kind for c in compute.clusters() for j in c.slurm_jobs] == ["head"], 40)
    finally:
        compute.cleanup_cluster(cluster_of(run))


def cluster_of(run: Run) -> str:
    (folder,) = [path for path in (run.base / "clusters").iterdir() if path.name[0] != "."]
    return folder.name


def test_the_log_of_a_cluster_that_never_came_up_is_kept(
    sandbox: RunningSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path(sandbox.info["users"]["user1"]["home"]) / "glue-never-up"
    compute = compute_of(sandbox, base, "slurm")

    @dg.asset
    def doomed(context: dg.AssetExecutionContext, compute: ComputeResource) -> Any:
        launcher = RayLauncher(head_mem="1G", ray_args=["--no-such-option"])
        return compute.run(context, "payload.py", launcher=launcher).get_materialize_result()

    (tmp_path / "payload.py").write_text(PAYLOAD)
    monkeypatch.chdir(tmp_path)
    try:
        result = dg.materialize([doomed], resources={"compute": compute}, raise_on_error=False)
        failure = failure_of(result, "doomed")
        assert failure.metadata["failure_kind"].value == "unknown"
        said = str(failure.description)
        (log,) = set(re.findall(r"/\S+/logs?/\S+\.log|/\S+/run\.log", said))
        assert "Error: No such option" in said
        assert "Error: No such option" in Path(log).read_text()
        assert Path(log).is_relative_to(base / "runs")
        assert list((base / "clusters").iterdir()) == []
    finally:
        shutil.rmtree(base, ignore_errors=True)


def compute_of(sandbox: RunningSandbox, base: Path, mode: str) -> ComputeResource:
    return ComputeResource(
        mode=mode,
        slurm=SlurmResource(
            ssh=SSHConnectionResource(**ssh_section(sandbox)),
            queue=SlurmQueueConfig(partition="compute", time_limit="00:05:00"),
            remote_base=str(base),
        ),
    )


def jobs_seen_through(link: str) -> int:
    """Open the link as a browser does, and count Ray's jobs."""
    port, ticket = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/.+)", link).groups()  # type: ignore[union-attr]
    status, cookie, page = _get(int(port), ticket)
    assert status == 200
    folder = re.search(r"url=(/[^/]+/)", page)
    assert folder
    status, _, jobs = _get(int(port), f"{folder[1]}api/jobs/", cookie.partition(";")[0])
    assert status == 200, jobs
    return jobs.count('"submission_id"')


def _get(port: int, path: str, cookie: str = "") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Set-Cookie", ""), answer.read().decode()
