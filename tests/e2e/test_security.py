"""Another user of the machine, who knows every address, gets nowhere."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster
from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for

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


def test_every_port_that_listens_is_documented_and_refuses_another_user(
    sandbox: RunningSandbox, cluster: Cluster
) -> None:
    with cluster.asking(_DRIVER_AND_WORKER):
        listeners = wait_for(lambda: listeners_with(WORKERS, sandbox, cluster), 60, poll_s=1)
        questions = [[name, address, *_QUESTIONS[name]] for name, _, address in listeners]
        argv = ["python", "-c", _ASK, json.dumps(questions)]
        host = cluster.head()["host"]
        answers = sandbox.run(*argv, user="user2", host=host, timeout_s=120).stdout.splitlines()

    documented = port_table()
    assert {name for name, _, _ in listeners} == documented.keys()
    assert [row for row in listeners if row[1] not in documented[row[0]]] == []
    assert len(answers) == 2 * len(listeners)
    assert [answer for answer in answers if not answer.startswith("refused")] == []


def listeners_with(
    wanted: str, sandbox: RunningSandbox, cluster: Cluster
) -> list[tuple[str, str, str]]:
    """(name, scope, address) of all that listens for the cluster on the hosts of its head and its
    steady worker; empty while there is no ``wanted`` among them."""
    steady = [r for r in cluster.workers() if r["node_id"] != cluster.head()["node_id"]]
    nodes = [head_report(cluster), *steady]
    names = named_ports(cluster)
    found = set()
    for report in nodes:
        host_ip = sandbox.info["hosts"][report["host"]]
        done = sandbox.run("python", "-c", _LISTENERS, str(cluster.dir), host=report["host"])
        for line in done.stdout.splitlines():
            ip, port = line.split()
            name = names.get((host_ip, int(port)), WORKERS)
            scope = {"127.0.0.1": "loopback", host_ip: "node address"}.get(ip, "all interfaces")
            found.add((name, scope, f"{'127.0.0.1' if scope == 'loopback' else host_ip}:{port}"))
    return sorted(found) if any(name == wanted for name, _, _ in found) else []


def named_ports(cluster: Cluster) -> dict[tuple[str, int], str]:
    """What listens on an address, by the command lines of the head's services and the raylets."""
    head = cluster.head()
    found = {
        (head["ip"], int(head["gcs_address"].rpartition(":")[2])): "GCS",
        (head["ip"], head["client_port"]): "Ray Client",
        (head["ip"], head["dashboard_port"]): "dashboard and job API",
    }
    options = {"--node_manager_port": "raylet", "--object_manager_port": "object manager",
               "--grpc-port": "dashboard agent, gRPC", "--listen-port": "dashboard agent, HTTP",
               "--runtime-env-agent-port": "runtime environment agent"}  # fmt: skip
    for command in cluster.processes():
        if "/raylet" in command.split()[0]:
            ip = re.search(r"--node_ip_address=(\S+)", command)
            assert ip
            for option, name in options.items():
                port = re.search(rf"{option}=(\d+)", command)
                assert port, option
                found[ip[1], int(port[1])] = name
    return found


def port_table() -> dict[str, str]:
    """Scope by name, from the table in docs/security.md."""
    text = (ROOT / "docs" / "security.md").read_text().partition("## Ports")[2]
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip(): row[2] for row in rows[1:]}


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
    for listing in (
        ["scontrol", "show", "job", "-dd"],
        ["squeue", "-o", "%all"],
        ["sacct", "--parsable2", "--format=ALL"],
        ["scontrol", "write", "batch_script", cluster.job_of(cluster.head()["node_id"]), "-"],
    ):
        shown = sandbox.run(*listing, user=cluster.user).stdout
        assert cluster.name in shown or "node.sh" in shown, listing
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

WORKERS = "worker processes and drivers"
# How to ask each service for something that needs the token: the gRPC method or the HTTP path.
_QUESTIONS = {
    "GCS": ("grpc", "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"),
    "Ray Client": ("grpc", "/ray.rpc.RayletDriver/ClusterInfo"),
    "dashboard and job API": ("http", "/api/jobs/"),
    "raylet": ("grpc", "/ray.rpc.NodeManagerService/GetNodeStats"),
    "object manager": ("grpc", "/ray.rpc.ObjectManagerService/Pull"),
    "dashboard agent, gRPC": ("grpc", "/ray.rpc.ReporterService/HealthCheck"),
    "dashboard agent, HTTP": ("http", "/api/job_agent/jobs/"),
    "runtime environment agent": ("http", "/get_or_create_runtime_env"),
    WORKERS: ("grpc", "/ray.rpc.CoreWorkerService/GetCoreWorkerStats"),
}

_DRIVER_AND_WORKER = """
@ray.remote(num_cpus=0, resources={"steady": 0.1})
class Idle:
    def wait(self): time.sleep(60)
idle = Idle.remote()
result = ray.get(idle.wait.remote())
"""

_LISTENERS = """
import os, re, socket, struct, sys
mark = (sys.argv[1] + "/").encode()
sockets = {}
for table in ("tcp", "tcp6"):
    for line in open("/proc/net/" + table).read().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            ip, port = fields[1].split(":")
            ip = socket.inet_ntoa(struct.pack("=I", int(ip[-8:], 16)))
            sockets[fields[9]] = (ip, int(port, 16))
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if mark not in open(f"/proc/{pid}/environ", "rb").read():
            continue
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            inode = re.match(r"socket:.(\\d+)", os.readlink(f"/proc/{pid}/fd/{descriptor}"))
            if inode and inode[1] in sockets:
                print(*sockets[inode[1]])
    except OSError:
        pass
"""

_ASK = """
import json, sys, urllib.error, urllib.request, grpc
for name, address, protocol, what in json.loads(sys.argv[1]):
    for token in (None, "0" * 64):
        headers = {"authorization": "Bearer " + token} if token else {}
        try:
            if protocol == "http":
                request = urllib.request.Request("http://" + address + what, headers=headers)
                print("ANSWERED", name, urllib.request.urlopen(request, timeout=10).status)
            else:
                call = grpc.insecure_channel(address).unary_unary(what)
                print("ANSWERED", name, call(b"", timeout=10, metadata=list(headers.items())))
        except urllib.error.HTTPError as error:
            print("refused" if error.code in (401, 403) else "ODD", name, error.code)
        except grpc.RpcError as error:
            refused = error.code() == grpc.StatusCode.UNAUTHENTICATED
            print("refused" if refused else "ODD", name, error.code(), error.details())
"""
