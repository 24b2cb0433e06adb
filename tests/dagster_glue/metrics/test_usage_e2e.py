"""Figures against what real jobs say they used."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from dagster_glue.metrics import Window, fetch_records, measure, usage_metadata
from slurm_provider.slurm import SlurmClient
from slurm_provider.transport import Transport
from tests.dagster_glue.edge import edge_transport
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox
MIB = 1 << 20

# Two processes of the batch script and one of a step burn CPU and say how much they used; the
# first holds 300 MiB for longer than the sampling interval (2 s).
BURN = """
import sys, time
held = bytearray(int(sys.argv[2]) << 20)
end = time.time() + float(sys.argv[1])
while time.time() < end:
    sum(range(1000))
print("USED", time.process_time(), flush=True)
"""
SCRIPT = """#!/bin/bash
python3 -c '{burn}' 5 300 & python3 -c '{burn}' 5 1 & wait
srun --overlap -n1 python3 -c '{burn}' 3 1
"""


@pytest.fixture
def edge(sandbox: RunningSandbox) -> Iterator[Transport]:
    with edge_transport(sandbox) as transport:
        yield transport


def submit(edge: Transport, output: str, *options: str, script: str = "") -> str:
    argv = ["sbatch", "--parsable", f"--output={output}", "--time=2", "--mem=500M", *options]
    script = script or SCRIPT.replace("{burn}", BURN)
    done = edge.run(argv, stdin=script.encode(), timeout_s=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_figures_are_what_the_jobs_used(edge: Transport) -> None:
    outputs = [f"{edge.home()}/usage-{number}.out" for number in (1, 2)]
    jobs = [
        submit(edge, outputs[0], "--cpus-per-task=2"),
        submit(edge, outputs[1], "--cpus-per-task=1", "--gres=gpu:a100:1"),
    ]
    client = SlurmClient(edge)
    try:
        wait_for(lambda: all(not j.state.is_live for j in client.queue() if j.job_id in jobs), 100)
        fetched = fetch_records(client, jobs)
        said = [edge.read_file(path).decode() for path in outputs]
    finally:
        client.cancel(jobs)
        for path in outputs:
            edge.remove_tree(path)
    used = [[float(number) for number in re.findall(r"USED ([0-9.]+)", text)] for text in said]
    assert [len(numbers) for numbers in used] == [3, 3], said
    assert fetched.records is not None
    usage = measure(fetched.records, jobs, Window(0, time.time()), shared=False)

    records = [fetched.records[job_id] for job_id in jobs]
    # A batch step may end a moment after its job.
    allocated_s = sum(
        r.cpus * max(r.elapsed_s, *(step.elapsed_s for step in r.steps)) for r in records
    )
    assert usage.cpu_efficiency.is_exact
    # Starting Python and the shells is what the burners do not see.
    least = sum(map(sum, used))
    assert least <= (usage.cpu_efficiency.value or 0) * allocated_s <= least + 3
    assert usage.node_hours.value == pytest.approx(sum(r.elapsed_s for r in records) / 3600)
    assert 300 * MIB < (usage.peak_memory_bytes.value or 0) < 400 * MIB
    assert usage.gpus.value == 1
    assert usage.gpu_hours.value == pytest.approx(records[1].elapsed_s / 3600)
    metadata = usage_metadata(usage)
    assert metadata["slurm_job_states"].value == dict.fromkeys(jobs, "COMPLETED")
    assert isinstance(metadata["slurm_cpu_efficiency_percent"].value, float)


def test_a_job_that_still_runs_has_no_efficiency_and_one_that_is_unknown_is_said(
    edge: Transport,
) -> None:
    client = SlurmClient(edge)
    job = submit(edge, "/dev/null", "--cpus-per-task=1", script="#!/bin/sh\nsleep 60\n")
    try:
        wait_for(lambda: any(r.start_time for r in client.history([job]).values()), 60)
        fetched = fetch_records(client, [job, "99999999"], wait_s=2)
    finally:
        client.cancel([job])
    assert fetched.records is not None
    usage = measure(fetched.records, [job, "99999999"], Window(0, time.time()), shared=False)
    assert usage.missing == ("99999999",)
    assert usage.cpu_efficiency.value is None
    assert usage.node_hours.why == "accounting does not know job 99999999"


def test_the_end_of_a_cancelled_jobs_steps_is_waited_for(edge: Transport) -> None:
    """Slurm says CANCELLED at once; its step, which takes its time to end, is accounted later."""
    client = SlurmClient(edge)
    script = "#!/bin/bash\ntrap 'sleep 2; exit' TERM\nwhile :; do :; done\n"
    job = submit(edge, "/dev/null", "--cpus-per-task=1", script=script)
    try:
        wait_for(lambda: any(r.elapsed_s > 3 for r in client.history([job]).values()), 60)
    finally:
        client.cancel([job])
    fetched = fetch_records(client, [job])
    assert fetched.records is not None
    usage = measure(fetched.records, [job], Window(0, time.time()), shared=False)
    assert usage.cpu_efficiency.is_exact, usage.cpu_efficiency
    assert (usage.cpu_efficiency.value or 0) > 0
