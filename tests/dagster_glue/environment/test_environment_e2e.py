"""Environments on the sandbox: packed here, uploaded over SSH as user1, run on hosts."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from dagster_glue.environment import LockedEnvironment, PreDeployed
from slurm_provider.api import RayCluster
from slurm_provider.config import EnvironmentConfig
from slurm_provider.fleet.launch import activation
from slurm_provider.transport import Transport
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

    unpack = f"{base}/unpack.sh"
    edge.write_file(unpack, (ROOT / "slurm_provider/job_scripts/unpack.sh").read_bytes())
    lines = activation(EnvironmentConfig.model_validate(answers[0][0]), unpack)
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


def test_ray_runs_on_the_packed_environment(
    sandbox: RunningSandbox, edge: Transport, base: str, tmp_path: Path
) -> None:
    lock_file = tmp_path / "requirements.txt"
    lock_file.write_text(f"ray[default]=={ray.__version__}\n")
    environment = LockedEnvironment(str(lock_file), python=PYTHON).ensure(edge, base, print)
    cluster = RayCluster(
        {
            "cluster_name": f"env-{secrets.token_hex(3)}",
            "max_workers": 0,
            "provider": {
                "type": "external",
                "module": "slurm_provider.SlurmNodeProvider",
                "ssh": ssh_section(sandbox),
                "cluster_dir": f"{base}/cluster",
                "defaults": {"partition": "compute", "time": "00:05:00", "mem": "1500M"},
                "environment": environment,
            },
            "head_node_type": "head",
            "available_node_types": {
                "head": {"node_config": {"cpus-per-task": 1}, "max_workers": 0}
            },
            "setup_commands": [],
            "head_setup_commands": [],
            "worker_setup_commands": [],
        }
    )
    try:
        head = cluster.up(print)
        done = edge.run(
            ["srun", f"--jobid={head.job_id}", "--overlap", "--ntasks=1", "sh", "-c",
             'for exe in /proc/[0-9]*/cmdline; do tr "\\0" " " < $exe; echo; done 2> /dev/null'],
            timeout_s=60,
        )  # fmt: skip
    finally:
        cluster.down()
        cluster.transport.close()
    programs = [line.split()[0] for line in done.stdout.splitlines() if line]
    raylets = [path for path in programs if path.endswith("/core/src/ray/raylet/raylet")]
    unpacked = {
        match[0] for path in raylets if (match := re.match("/tmp/rs-env-[0-9]+/[^/]+", path))
    }
    assert len(unpacked) == 1, done
    sandbox.run("rm", "-rf", *unpacked, host=head.host)  # 350 MB on the host's own disk


def test_a_prefix_that_is_deployed_already_is_found_over_ssh(
    sandbox: RunningSandbox, edge: Transport
) -> None:
    prefix = sandbox.info["env_prefix"]
    assert PreDeployed(prefix).ensure(edge, "/unused", print) == {"prefix": prefix}
