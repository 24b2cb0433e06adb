"""A machine outside the Slurm hosts, on a cable of its own, with Dagster's code server on it.

Runs are started and cancelled as the web server does it, by the code server, whose run workers and
step processes can be killed. The cable can be pulled and the edge node can reboot, which nobody
else on the sandbox notices.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import dagster as dg
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.remote_representation.external import RemoteJob
from dagster._core.workspace.context import BaseWorkspaceRequestContext, WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._grpc.client import DagsterGrpcClient

from sandbox.layout import BRIDGE
from tests.dagster_glue.own_sshd import OwnSshd
from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for

_LOCATION = "outside"
_MODULE = "tests.dagster_glue.outside_project"
_INSTANCE = """
telemetry: {enabled: false}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
"""


class DagsterMachine:
    """Use it in a ``with`` block; all of its processes end with that."""

    def __init__(self, sandbox: RunningSandbox, folder: Path, base: str) -> None:
        """``base`` is where its clusters and runs are, on the sandbox."""
        self.edge = OwnSshd(sandbox, folder)
        number = 200 + os.getpid() % 50
        self.address = f"{self.edge.address.rpartition('.')[0]}.{number}"
        self._cable = f"rsout{os.getpid()}"
        self._home = folder / "dagster-home"
        self._home.mkdir()
        self._home.joinpath("dagster.yaml").write_text(_INSTANCE)
        self._socket = str(folder / "code.sock")
        self._log = folder / "code-server.log"
        ssh = self.edge.section
        self._env = {
            **os.environ,
            **{f"SLURM_EDGE_NODE_{name.upper()}": str(value) for name, value in ssh.items()},
            "OUTSIDE_BASE": base,
            "DAGSTER_HOME": str(self._home),
        }

    def __enter__(self) -> DagsterMachine:
        argv = ["-m", "dagster", "api", "grpc", "--socket", self._socket, "-m", _MODULE]
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                ["unshare", "--net", "--", sys.executable, *argv, "--working-directory", str(ROOT)],
                cwd=ROOT, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            self.edge.start()
            self._lay_cable()
            wait_for(lambda: os.path.exists(self._socket), 60)
            client = DagsterGrpcClient(socket=self._socket)
            wait_for(lambda: client.health_check_query() == "SERVING", 60)
            self.instance = dg.DagsterInstance.from_config(str(self._home))
            target = GrpcServerTarget(
                host="localhost", port=None, socket=self._socket, location_name=_LOCATION
            )
            self._workspace = WorkspaceProcessContext(self.instance, target)
            self._workspace.__enter__()
        except BaseException:
            self._end()
            print(self._log.read_text())
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._workspace.__exit__(kind, error, traceback)
        self.instance.dispose()
        self._end()

    # -- runs ------------------------------------------------------------------------------

    def launch(self, asset: str, config: Mapping[str, Any]) -> str:
        """Start a run of one asset; its id."""
        workspace = self._workspace.create_request_context()
        job = self._job(workspace, asset)
        run_config = {"ops": {asset: {"config": dict(config)}}}
        plan = workspace.get_code_location(_LOCATION).get_execution_plan(
            job, run_config, step_keys_to_execute=None, known_state=None, instance=self.instance
        )
        run = self.instance.create_run(
            job_name=job.name, run_id=None, run_config=run_config, status=None, tags=None,
            root_run_id=None, parent_run_id=None, resolved_op_selection=None, op_selection=None,
            step_keys_to_execute=plan.execution_plan_snapshot.step_keys_to_execute,
            execution_plan_snapshot=plan.execution_plan_snapshot,
            job_snapshot=job.job_snapshot, parent_job_snapshot=job.parent_job_snapshot,
            asset_selection=None, asset_check_selection=None,
            remote_job_origin=job.get_remote_origin(), job_code_origin=job.get_python_origin(),
            asset_graph=job.repository.asset_graph if hasattr(job, "repository") else None,
        )  # fmt: skip
        self.instance.submit_run(run.run_id, workspace)
        return run.run_id

    def retry_from_failure(self, run_id: str, asset: str) -> str:
        """A new run that does what failed in the other, as Dagster's daemon does by itself."""
        workspace = self._workspace.create_request_context()
        run = self.instance.create_reexecuted_run(
            request_context=workspace,
            parent_run=self._run(run_id),
            code_location=workspace.get_code_location(_LOCATION),
            remote_job=self._job(workspace, asset),
            strategy=ReexecutionStrategy.FROM_FAILURE,
            use_parent_run_tags=True,
        )
        self.instance.submit_run(run.run_id, workspace)
        return run.run_id

    def cancel(self, run_id: str) -> None:
        """As the button does."""
        assert self.instance.run_coordinator.cancel_run(run_id)

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        return self._run(run_id).status

    def wait_for_end(self, run_id: str, timeout_s: float = 90) -> dg.DagsterRunStatus:
        wait_for(lambda: self._run(run_id).is_finished, timeout_s)
        return self.status(run_id)

    def said(self, run_id: str) -> list[str]:
        """All of its events in words."""
        return [_words(entry) for entry in self.instance.all_logs(run_id)]

    def pid_of_step(self, run_id: str) -> int:
        """Of the process that runs its step now."""
        found = [
            event.event_specific_data.metadata["pid"].value  # type: ignore[union-attr]
            for event in self._dagster_events(run_id)
            if event.event_type is dg.DagsterEventType.STEP_WORKER_STARTED
        ]
        return int(str(found[-1]))

    def pid_of_run(self, run_id: str) -> int:
        """Of its run worker."""
        found = re.search(r"Started process for run \(pid: (\d+)\)", "\n".join(self.said(run_id)))
        assert found
        return int(found[1])

    # -- its way to the edge node ----------------------------------------------------------

    def unplug(self) -> None:
        """From now on every packet is lost, and nobody is told."""
        _ip(f"link set {self._cable} down")

    def plug(self) -> None:
        _ip(f"link set {self._cable} up")

    # -- inside ----------------------------------------------------------------------------

    def _lay_cable(self) -> None:
        pid = self._server.pid
        here, there = os.stat("/proc/self/ns/net"), f"/proc/{pid}/ns/net"
        wait_for(lambda: os.stat(there).st_ino != here.st_ino)
        _ip(
            f"link add {self._cable} type veth peer name eth0 netns {pid}",
            f"link set {self._cable} master {BRIDGE} up",
        )
        network = [f"addr add {self.address}/24 dev eth0", "link set lo up", "link set eth0 up"]
        _ip(*network, inside=pid)

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        self.edge.end()

    def _run(self, run_id: str) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def _job(self, workspace: BaseWorkspaceRequestContext, asset: str) -> RemoteJob:
        return workspace.get_code_location(_LOCATION).get_job(
            JobSubsetSelector(
                location_name=_LOCATION,
                repository_name="__repository__",
                job_name=f"{asset}_job",
                op_selection=None,
            )
        )

    def _dagster_events(self, run_id: str) -> list[dg.DagsterEvent]:
        entries = self.instance.all_logs(run_id)
        return [entry.dagster_event for entry in entries if entry.dagster_event is not None]


def _words(entry: dg.EventLogEntry) -> str:
    event = entry.dagster_event
    data = event.step_failure_data if event is not None and event.is_step_failure else None
    return entry.message if data is None else f"{entry.message}\n{data.error_display_string}"


def _ip(*commands: str, inside: int | None = None) -> None:
    where = [] if inside is None else ["nsenter", "--target", str(inside), "--net"]
    subprocess.run([*where, "ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)
