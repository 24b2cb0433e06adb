"""A Dagster process of its own that runs one asset in a session: ``python -m … SPEC``.

SPEC is JSON: ``base``, ``session``, ``launcher`` and ``ssh`` are arguments of the resources,
``work_s`` is how long the payload takes, ``lease_ttl_s`` how long a lease lasts, and
``unleased_timeout_s`` how long a cluster of one asset stays without one. The last line of its
output is the asset's metadata.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_glue import (
    ComputeResource,
    ExecutionMode,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
    SlurmSessionResource,
    SSHConnectionResource,
    acquire,
)
from dagster_glue.cluster_config import UNLEASED_TIMEOUT_S, ClusterPlan
from dagster_glue.clusters import lease
from tests.sandbox_fixture import ROOT

PAYLOAD = """
import os, sys, time
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    print("the payload runs", flush=True)
    time.sleep(float(sys.argv[1]))
    pipes.report_asset_materialization(metadata={"host": os.uname().nodename})
"""


def compute_of(spec: dict[str, Any]) -> ComputeResource:
    return ComputeResource(
        mode=spec.get("mode", ExecutionMode.SLURM_SESSION.value),
        slurm=SlurmResource(
            ssh=SSHConnectionResource(**spec["ssh"]),
            queue=SlurmQueueConfig(partition="compute", time_limit="00:20:00", mem="800M"),
            remote_base=spec["base"],
        ),
        session=SlurmSessionResource(**spec["session"]),
        default_launcher=RayLauncher(**spec["launcher"]),
        enable_cluster_reuse=spec.get("reuse", False),
    )


def materialize(spec: dict[str, Any]) -> dict[str, Any]:
    """Run the asset in this process; its metadata."""

    @dg.asset(name="work")
    def asset(context) -> Any:  # type: ignore[no-untyped-def]  # Dagster refuses its text
        launcher = RayLauncher(**spec["override"]) if "override" in spec else None
        payload = f"payload.py {spec.get('work_s', 0)}"
        done = compute_of(spec).run(context, payload, launcher=launcher)
        return done.get_materialize_result()

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "payload.py").write_text(PAYLOAD)
        os.chdir(folder)
        result = dg.materialize([asset])
    (event,) = result.asset_materializations_for_node("work")
    return {name: value.value for name, value in event.metadata.items()}


@dataclass(frozen=True)
class Step:
    """Such a process."""

    process: subprocess.Popen[bytes]
    log: Path

    def says(self, words: str) -> bool:
        return words in self._text

    def cluster_id(self) -> str:
        """As its log tells it."""
        found = re.search(r"Cluster (\S+): Ray runs|Cluster (\S+) of .* is warm", self._text)
        assert found, self._text
        return found[1] or found[2]

    def run_id(self) -> str:
        found = re.search(r" - ([0-9a-f-]{36}) - ", self._text)
        assert found, self._text
        return found[1]

    @property
    def _text(self) -> str:
        return self.log.read_text(errors="replace")

    def metadata(self, timeout_s: float = 120) -> dict[str, Any]:
        """When it has succeeded."""
        code = self.process.wait(timeout_s)
        assert code == 0, self._text
        return dict(json.loads(self._text.splitlines()[-1]))


@contextmanager
def started(spec: dict[str, Any], log: Path) -> Iterator[Step]:
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.dagster_glue.session_step", json.dumps(spec)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        yield Step(process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    lease.TTL_S = given.get("lease_ttl_s", lease.TTL_S)
    lease._RENEW_S = min(lease._RENEW_S, lease.TTL_S / 4)
    timeout_s = given.get("unleased_timeout_s", UNLEASED_TIMEOUT_S)
    acquire.ClusterPlan = partial(  # type: ignore[assignment, misc]
        ClusterPlan, unleased_timeout_s=timeout_s
    )
    said = materialize(given)
    print("\n" + json.dumps({name: said[name] for name in ("cluster_id", "slurm_job_ids", "host")}))
