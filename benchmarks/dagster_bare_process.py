"""The bare side: the same payload by Ray's own client on the cluster that our side left warm.

``python -m benchmarks.dagster_bare_process PLAN``. With a ``head`` in the plan this runs on the
head and reaches its dashboard directly; else it runs where Dagster does, and goes through the same
tunnel. Imports, connecting and the tunnel are done before the clock starts. It uploads the payload
(``uploads``), or names one that is there and needs no runtime environment.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ray.job_submission import JobStatus, JobSubmissionClient

_POLL_S = 0.1
_OVER = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)


def main(path: str) -> None:
    plan = json.loads(Path(path).read_text())
    if "head" in plan:
        runs = _run(plan, plan["head"]["address"], plan["head"]["headers"])
    else:
        runs = _through_tunnel(plan)
    Path(plan["result"]).write_text(json.dumps(runs))


def _through_tunnel(plan: dict[str, Any]) -> list[dict[str, float]]:
    from benchmarks.dagster_ours_process import compute_of
    from dagster_glue.clusters.on_slurm import SlurmCluster
    from dagster_glue.clusters.place import place_of

    site = compute_of(plan).site
    assert site is not None
    place = place_of(site)
    connection = SlurmCluster(place.handle(plan["cluster"]), place.runs_dir).open_jobs()
    try:
        return _run(plan, connection.address, connection.headers)
    finally:
        connection.close()


def _run(plan: dict[str, Any], address: str, headers: dict[str, str]) -> list[dict[str, float]]:
    client = JobSubmissionClient(address, headers=headers)
    return [_job(client, plan, number) for number in range(plan["assets"])]


def _job(client: JobSubmissionClient, plan: dict[str, Any], number: int) -> dict[str, float]:
    """From the submission, with the payload's upload, until its end is known and its log read."""
    payload = Path(plan["payload"])
    moments = f"{plan['moments']}/asset_{number}.json"
    entrypoint, runtime_env = f"BENCH_MOMENTS={moments} python {payload}", None
    if plan["uploads"]:
        entrypoint = f"python {payload.name}"
        variables = {"BENCH_MOMENTS": moments}
        runtime_env = {"working_dir": str(payload.parent), "env_vars": variables}
    start = time.time()
    name = client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env)
    submitted = time.time()
    while (status := client.get_job_status(name)) not in _OVER:
        time.sleep(_POLL_S)
    log = client.get_job_logs(name)
    if status != JobStatus.SUCCEEDED:
        sys.exit(f"the bare job {status}: {log[-2000:]}")
    return {"start": start, "submitted": submitted, "end": time.time()}


if __name__ == "__main__":
    main(sys.argv[1])
