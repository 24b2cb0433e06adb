"""Another user of the machine, who knows every address, gets nowhere."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster
from tests.sandbox_fixture import RunningSandbox

pytestmark = pytest.mark.sandbox


def as_user2(
    sandbox: RunningSandbox, cluster: Cluster, script: str, token: str | None
) -> subprocess.CompletedProcess[str]:
    """Python on the head's host, with a wrong token or none."""
    mode = ["RAY_AUTH_MODE=disabled"]
    if token is not None:
        mode = ["RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN={token}"]
    argv = ["env", *mode, "timeout", "40", "python", "-c", script]
    return sandbox.run(*argv, user="user2", host=cluster.head()["host"], timeout_s=60, check=False)


@pytest.mark.parametrize("token", [None, "0" * 64], ids=["no-token", "wrong-token"])
def test_gcs_refuses_a_driver_of_another_user(
    sandbox: RunningSandbox, cluster: Cluster, token: str | None
) -> None:
    done = as_user2(sandbox, cluster, _DRIVER.format(cluster.head()["gcs_address"]), token)

    assert done.returncode == 3, done.stdout + done.stderr
    assert "REFUSED ConnectionError" in done.stdout
    assert "Unauthenticated" in done.stderr


@pytest.mark.parametrize("token", [None, "0" * 64], ids=["no-token", "wrong-token"])
def test_the_ray_client_server_refuses_another_user(
    sandbox: RunningSandbox, cluster: Cluster, token: str | None
) -> None:
    head = cluster.head()
    script = _CLIENT.format(f"{head['ip']}:{head['client_port']}", token)

    done = as_user2(sandbox, cluster, script, token)

    # Without Ray's own client, which only says that it timed out.
    assert "UNAUTHENTICATED" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("token", [None, "0" * 64], ids=["no-token", "wrong-token"])
def test_every_http_port_refuses_another_user(
    sandbox: RunningSandbox, cluster: Cluster, token: str | None
) -> None:
    """The dashboard and its job API; the agents' job API on the head and on a worker."""
    cluster.wait_for_workers(1)
    head = cluster.head()
    ports = agent_ports(cluster)
    urls = [
        f"http://127.0.0.1:{head['dashboard_port']}/api/jobs/",
        f"http://127.0.0.1:{head['dashboard_port']}/api/version",
        f"http://127.0.0.1:{head['dashboard_port']}/nodes?view=summary",
        *[f"http://{ip}:{port}/api/job_agent/jobs/" for ip, port in ports],
    ]
    assert len(ports) >= 2

    done = as_user2(sandbox, cluster, _HTTP.format(urls, token), token)

    statuses = done.stdout.split()
    assert len(statuses) == len(urls), done.stdout + done.stderr
    assert set(statuses) <= {"401", "403"}, dict(zip(urls, statuses, strict=True))


def agent_ports(cluster: Cluster) -> list[tuple[str, int]]:
    """Address and port of the dashboard agents, from the raylets' command lines, which hold the
    agents'."""
    addresses = cluster.sandbox.info["hosts"]
    found = []
    for report in cluster.reports():
        for command in cluster.processes():
            port = re.search(r"--listen-port=(\d+)", command)
            if "/raylet" in command.split()[0] and f"/{report['node_id']} " in command and port:
                found.append((addresses[report["host"]], int(port.group(1))))
    return found


def test_only_the_owner_reads_the_cluster_directory_and_the_token(cluster: Cluster) -> None:
    assert stat.S_IMODE(cluster.dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((cluster.dir / "token").stat().st_mode) == 0o600
    readable = [
        path for path in cluster.dir.rglob("*") if path.is_file() and path.stat().st_mode & 0o077
    ]
    # Logs are Slurm's own files; the directory above keeps others out of them.
    assert [path for path in readable if path.parent.name != "logs"] == []


def test_only_the_owner_enters_the_nodes_temporary_folders(
    sandbox: RunningSandbox, cluster: Cluster
) -> None:
    for report in [*cluster.wait_for_workers(1), head_report(cluster)]:
        done = sandbox.run("ls", report["temp_dir"], user="user2", host=report["host"], check=False)
        assert "Permission denied" in done.stderr


def test_the_token_is_nowhere_but_in_its_file(sandbox: RunningSandbox, cluster: Cluster) -> None:
    token = cluster.token()
    assert len(token) >= 32

    holders = [f"{pid} {name}" for pid in _pids() for name in ("cmdline", "environ")
               if token.encode() in _read(Path("/proc") / pid / name)]  # fmt: skip
    assert holders == []
    shown = sandbox.run("scontrol", "show", "job", "-dd").stdout
    assert cluster.name in shown
    assert token not in shown
    found = sandbox.run("grep", "-rl", token, str(cluster.dir), check=False).stdout.split()
    assert found == [f"{cluster.dir}/token"]


def test_the_token_is_in_no_log_of_ray(sandbox: RunningSandbox, cluster: Cluster) -> None:
    for report in [*cluster.wait_for_workers(1), head_report(cluster)]:
        folder, host = report["temp_dir"], report["host"]
        argv = ["grep", "-rl", "--devices=skip", cluster.token(), folder]
        assert sandbox.run(*argv, host=host, check=False).stdout == ""
        assert sandbox.run("grep", "-rlc", "raylet", folder, host=host).stdout != ""


def head_report(cluster: Cluster) -> Any:
    return cluster.json(f"nodes/{cluster.head()['node_id']}/node.json")


def _pids() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


_DRIVER = """
import os, sys
os.environ["RAY_NUM_REDIS_GET_RETRIES"] = "2"  # of GCS, one a second; Ray's default is 20
import ray
try:
    ray.init({!r}, log_to_driver=False)
    print(ray.get(ray.remote(num_cpus=0)(lambda: "RAN").remote(), timeout=20))
except Exception as error:
    print("REFUSED", type(error).__name__, error, flush=True)
    os._exit(3)
"""

_CLIENT = """
import grpc
from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc
address, token = {!r}, {!r}
metadata = [("authorization", "Bearer " + token)] if token else []
stub = ray_client_pb2_grpc.RayletDriverStub(grpc.insecure_channel(address))
request = ray_client_pb2.ClusterInfoRequest(type=ray_client_pb2.ClusterInfoType.PING)
try:
    print("ANSWERED", stub.ClusterInfo(request, timeout=10, metadata=metadata))
except grpc.RpcError as error:
    print(error.code(), error.details())
"""

_HTTP = """
import urllib.error, urllib.request
for url in {!r}:
    token = {!r}
    headers = {{"Authorization": "Bearer " + token}} if token else {{}}
    try:
        request = urllib.request.Request(url, headers=headers)
        print(urllib.request.urlopen(request, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code)
"""
