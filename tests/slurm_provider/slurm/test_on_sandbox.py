"""The client against a real Slurm."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence

import pytest

from slurm_provider.slurm import (
    Job,
    JobState,
    ReasonKind,
    SlurmClient,
    SlurmRefused,
    Submission,
    explain,
)
from slurm_provider.transport import Completed
from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for
from tests.sandbox_fixture import sandbox as sandbox

pytestmark = pytest.mark.sandbox


class SandboxTransport:
    """Runs commands on the sandbox's edge node, as an ordinary user in another time zone."""

    label = "user1@edge"

    def __init__(self, running: RunningSandbox) -> None:
        self._running = running

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        done = subprocess.run(
            self._running.run_argv("env", "LC_ALL=C", "TZ=Pacific/Apia", *argv),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=ROOT,
            check=False,
        )
        return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


@pytest.fixture
def client(sandbox: RunningSandbox) -> SlurmClient:
    return SlurmClient(SandboxTransport(sandbox))


@pytest.fixture
def script(sandbox: RunningSandbox) -> Iterator[str]:
    path = sandbox.run("mktemp", "/tmp/slurm-client-XXXXXX.sh").stdout.strip()
    sandbox.run("sh", "-c", f"printf '#!/bin/sh\\nexec sleep 300\\n' > {path}")
    yield path
    sandbox.run("rm", "-f", path)


def submission(script: str, *, tasks: list[int] | None = None, **options: object) -> Submission:
    own = {"output": "/dev/null", "job-name": "client-test", "chdir": "/", "no-requeue": True}
    user = {key.replace("_", "-"): value for key, value in options.items()}
    return Submission(
        script, options={"time": "5", "mem": "50M", **user}, provider_options=own, array_tasks=tasks
    )


def jobs_of(client: SlurmClient, job_id: str) -> dict[str, Job]:
    return {job.job_id: job for job in client.queue() if job.job_id.split("_")[0] == job_id}


def test_an_array_is_submitted_listed_cancelled_and_remembered(
    client: SlurmClient, script: str
) -> None:
    before = time.time()
    submitted = client.submit(submission(script, tasks=[0, 2, 3]))
    try:
        jobs = wait_for(
            lambda: (
                found
                if set(found := jobs_of(client, submitted.job_id)) == set(submitted.job_ids)
                and all(job.state is JobState.RUNNING for job in found.values())
                else None
            )
        )
        for job in jobs.values():
            assert job.name == "client-test"
            assert job.time_limit_s == 300
            assert job.submit_time is not None
            assert before - 5 < job.submit_time < time.time() + 5
            assert job.hosts
        client.cancel([*submitted.job_ids[:2], "99999999"])
        wait_for(
            lambda: sum(j.state.is_live for j in jobs_of(client, submitted.job_id).values()) == 1
        )
    finally:
        client.cancel([submitted.job_id])
    wait_for(lambda: not any(j.state.is_live for j in jobs_of(client, submitted.job_id).values()))
    client.cancel(submitted.job_ids)  # gone is no error
    records = wait_for(
        lambda: (
            found
            if len(found := client.history(submitted.job_ids)) == 3
            and all(record.state is JobState.CANCELLED for record in found.values())
            else None
        )
    )
    assert all(record.name == "client-test" for record in records.values())


def test_names_with_separators_and_line_breaks_do_not_break_the_listing(
    client: SlurmClient, script: str, sandbox: RunningSandbox
) -> None:
    name = 'odd\x1fname\nwith "q" | and é'
    job_id = sandbox.run(
        "sbatch", "--parsable", "--hold", "--output=/dev/null", f"--job-name={name}", script
    ).stdout.strip()
    try:
        assert jobs_of(client, job_id)[job_id].name == name
    finally:
        client.cancel([job_id])


def test_a_job_that_can_never_run_is_told_before_and_explained_after(
    client: SlurmClient, script: str
) -> None:
    impossible = submission(script, cpus_per_task=999)
    assert not client.test_only(impossible).accepted
    possible = client.test_only(submission(script))
    assert possible.accepted
    assert possible.expected_start is not None
    assert possible.expected_start > time.time() - 60
    try:
        job_id = client.submit(impossible).job_id
    except SlurmRefused:
        return  # a site with EnforcePartLimits
    try:
        job = wait_for(
            lambda: (
                found
                if (found := jobs_of(client, job_id)[job_id]).reason not in ("None", "Priority")
                else None
            )
        )
        assert job.state.is_pending
        assert explain(job.reason).kind is ReasonKind.NEVER
    finally:
        client.cancel([job_id])


def test_a_refusal_carries_slurms_words(client: SlurmClient, script: str) -> None:
    with pytest.raises(SlurmRefused, match="Invalid partition name specified"):
        client.submit(submission(script, partition="nowhere"))


def test_a_foreign_job_cannot_be_cancelled(client: SlurmClient, sandbox: RunningSandbox) -> None:
    job_id = sandbox.run(
        "sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=sleep 300", user="user2"
    ).stdout.strip()
    try:
        with pytest.raises(SlurmRefused, match="denied"):
            client.cancel([job_id])
        assert job_id not in {job.job_id for job in client.queue()}
    finally:
        sandbox.run("scancel", job_id, user="user2")


def test_the_site_describes_itself(client: SlurmClient, sandbox: RunningSandbox) -> None:
    config = client.config()
    assert config.version
    assert config.max_array_size > 1
    assert config.accounting
    partitions = client.partitions()
    assert [partition.is_default for partition in partitions].count(True) == 1
    assert sum(group.count for group in partitions[0].hosts) == len(sandbox.info["hosts"])
    accounts = client.accounts()
    assert accounts.known
    assert accounts.associations
