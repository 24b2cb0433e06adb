"""Environments on the sandbox: packed here, uploaded over SSH as user1, run on hosts."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import dagster as dg
import pytest
import ray

from dagster_glue import (
    ComputeResource,
    PackConfig,
    SlurmQueueConfig,
    SlurmResource,
    SSHConnectionResource,
)
from dagster_glue.environment import PreDeployed
from slurm_provider.config import EnvironmentConfig
from slurm_provider.fleet.launch import activation
from slurm_provider.transport import Transport
from tests.dagster_glue.assets import metadata_of
from tests.dagster_glue.edge import edge_transport, ssh_section
from tests.dagster_glue.environment.conftest import MakeWheel, RunningSandbox
from tests.sandbox_fixture import ROOT

pytestmark = [pytest.mark.sandbox, pytest.mark.usefixtures("uv")]
PYTHON = "/usr/bin/python3"


@pytest.fixture
def edge(sandbox: RunningSandbox) -> Iterator[Transport]:
    with edge_transport(sandbox) as transport:
        yield transport


@pytest.fixture
def base(edge: Transport) -> Iterator[str]:
    """A folder of the test's own on the shared file system."""
    path = f"{edge.home()}/env-test-{secrets.token_hex(4)}"
    edge.make_dir(path)
    yield path
    edge.remove_tree(path)


PROCESS = """
import json, sys
from dagster_glue.environment import LockedEnvironment
from slurm_provider.transport import SshSettings, SshTransport

ssh, lock_file, base = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
log = []
found = LockedEnvironment(lock_file, python=sys.argv[4]).ensure(
    SshTransport(SshSettings(**ssh)), base, log.append
)
print(json.dumps([found, log]))
"""


def test_two_processes_at_once_upload_once_and_hosts_unpack_for_themselves(
    sandbox: RunningSandbox, edge: Transport, base: str, tmp_path: Path, make_wheel: MakeWheel
) -> None:
    make_wheel("hello", says="good day")
    lock_file = tmp_path / "requirements.txt"
    lock_file.write_text(f"--no-index\n--find-links {tmp_path / 'wheels'}\nhello==1.0\n")
    argv = [sys.executable, "-c", PROCESS, json.dumps(ssh_section(sandbox)), str(lock_file), base]
    processes = [
        subprocess.Popen([*argv, PYTHON], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(2)
    ]
    try:
        answers = [json.loads(process.communicate(timeout=90)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
    assert answers[0][0] == answers[1][0]
    uploads = [line for _, log in answers for line in log if line.startswith("Uploaded")]
    assert len(uploads) == 1, answers

    for name in ("own_folder.sh", "unpack.sh"):
        script = ROOT / "slurm_provider" / "job_scripts" / name
        edge.write_file(f"{base}/{name}", script.read_bytes())
    lines = activation(EnvironmentConfig.model_validate(answers[0][0]), f"{base}/unpack.sh")
    done = edge.run(
        ["srun", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--mem=100M", "--time=2",
         "bash", "-c", f'{lines}echo "$(hostname) $(hello)"'],
        timeout_s=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 4
    assert len({host for host, *_ in rows}) == 2
    assert all(row[1:3] == ["good", "day"] and "/rs-env-" in row[3] for row in rows)


PAYLOAD = """
import socket, sys
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes() as pipes:
    pipes.report_asset_materialization(
        metadata={"prefix": sys.prefix, "host": socket.gethostname()})
"""


def test_a_payload_and_its_ray_run_on_the_packed_environment(
    sandbox: RunningSandbox, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("payload.py").write_text(PAYLOAD)
    Path("requirements.txt").write_text(
        f"ray[default]=={ray.__version__}\ndagster-pipes=={version('dagster-pipes')}\n"
    )
    compute = ComputeResource(
        mode="slurm",
        slurm=SlurmResource(
            ssh=SSHConnectionResource(**ssh_section(sandbox)),
            queue=SlurmQueueConfig(partition="compute", time_limit="00:05:00", mem="1500M"),
            remote_base=base,
        ),
        packing=PackConfig(lock_file="requirements.txt", python=PYTHON),
    )

    @dg.asset
    def step(context):  # type: ignore[no-untyped-def]  # Dagster refuses its text
        yield from compute.run(context, "payload.py").get_results()

    try:
        said = metadata_of(dg.materialize([step]), "step")
    finally:
        for cluster in compute.clusters():
            compute.cleanup_cluster(cluster.cluster_id)
    unpacked = re.match(r"/tmp/rs-env-[0-9]+/[^/]+", said["prefix"])
    assert unpacked, said["prefix"]
    sandbox.run("rm", "-rf", unpacked[0], host=said["host"])  # 350 MB on the host's own disk


def test_a_prefix_that_is_deployed_already_is_found_over_ssh(
    sandbox: RunningSandbox, edge: Transport
) -> None:
    prefix = sandbox.info["env_prefix"]
    assert PreDeployed(prefix).ensure(edge, "/unused", print) == {"prefix": prefix}
