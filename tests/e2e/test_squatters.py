"""Another user who knows every port of the head, and waits for each to be free, gets no token."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.e2e.cluster import UP_S, Cluster, config, node_type
from tests.e2e.conftest import MakeCluster
from tests.e2e.dashboard import relays
from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox


@dataclass
class Squatter:
    """What user2's program says: the ports that it listens on, and all that anybody sent there."""

    listens: set[int] = field(default_factory=set)
    received: bytes = b""

    def follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            kind, _, value = line.strip().partition(" ")
            if kind == "listens":
                self.listens.add(int(value))
            else:
                self.received += bytes.fromhex(value)


@contextlib.contextmanager
def squatting(sandbox: RunningSandbox, host: str | None, ports: list[int]) -> Iterator[Squatter]:
    """user2 on a host or the edge node, trying to listen on these ports as long as this lasts."""
    argv = sandbox.run_argv("python", "-c", _SQUAT, *map(str, ports), user="user2", host=host)
    squatter = Squatter()
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        reader = Thread(target=squatter.follow, args=(process,))
        reader.start()
        try:
            yield squatter
        finally:
            process.communicate()  # the end of its input ends it
            reader.join()


def test_a_squatter_on_the_heads_host_gets_no_token_that_is_worth_anything(
    sandbox: RunningSandbox, make_cluster: MakeCluster
) -> None:
    worker = node_type(max_workers=1, min_workers=1)
    cluster = make_cluster("squat", config({"cpu": worker}))
    set_up, start = cluster.folder / "set-up", cluster.folder / "start"
    cluster.content["head_setup_commands"] = [f"until [ -e {set_up} ]; do sleep 0.1; done"]
    cluster.content["head_start_ray_commands"] = [
        f"until [ -e {start} ]; do sleep 0.1; done; "
        "ray start --head --autoscaling-config=~/ray_bootstrap_config.yaml"
    ]
    cluster.write()
    with cluster.background(cluster.ray_argv("up -y")) as up:
        ready = wait_for(lambda: ready_head(cluster), 60)
        ports = service_ports(cluster, ready["node_id"])
        del ports["--port"]  # GCS's: only to spare the test the 35 s that Ray waits for that one

        # While the head waits for `ray up`, its agent holds the ports.
        with squatting(sandbox, ready["host"], list(ports.values())) as early:
            set_up.touch()
            wait_for(lambda: "start command" in cluster.agent_log(ready["node_id"]), 60)
            # Now the agent has let go of them, and Ray has not started yet.
            wait_for(lambda: early.listens == set(ports.values()))
            assert early.received == b""
            start.touch()
            output, _ = up.communicate(timeout=UP_S)
            assert up.returncode == 0, output
            cluster.wait_for_workers(1)
        assert cluster.token().encode() not in early.received

    # While Ray starts again after a crash, its old ports are free.
    old_token, old = cluster.token(), cluster.head()
    crashed = service_ports(cluster, ready["node_id"])
    sandbox.run("kill", "-9", str(cluster.pid_of("gcs_server")), user=None)
    with squatting(sandbox, ready["host"], list(crashed.values())) as late:
        wait_for(lambda: (cluster.head() or old)["generation"] != old["generation"], 90)
        alive = "result = len([n for n in ray.nodes() if n['Alive']])"
        wait_for(lambda: cluster.ask(alive) == 2, 120, poll_s=1)
    assert late.listens, "nobody took a port that Ray had left"
    assert cluster.token() != old_token
    assert cluster.token().encode() not in late.received


def test_a_squatter_on_the_port_of_a_tunnel_that_ended_gets_nothing(
    sandbox: RunningSandbox, cluster: Cluster
) -> None:
    """`ray-slurm dashboard` adds the token to what a browser asks, and opens a new tunnel."""
    with cluster.background(["ray-slurm", "dashboard", str(cluster.yaml)]) as process:
        assert process.stdout is not None
        printed = (re.search(r"http://127\.0\.0\.1:(\d+)/\S+", line) for line in process.stdout)
        link = next(found for found in printed if found)
        browser = Browser(int(link[1]), link[0])
        assert browser.status("api/jobs/") == 200
        tunnels = listening_ports(b"dashboard", str(cluster.yaml).encode()) - {browser.port}

        with squatting(sandbox, None, list(tunnels)) as squatter:
            for pid in relays(cluster):
                os.kill(pid, signal.SIGKILL)
            # The browser goes on asking; between the tunnels it is told so.
            answers = {browser.status("api/jobs/")}
            wait_for(lambda: answers.add(browser.status("api/jobs/")) or squatter.listens, 30)
            wait_for(lambda: browser.status("api/jobs/") == 200, 60)

    assert squatter.received == b""
    assert len(tunnels) == 1 and squatter.listens == tunnels


class Browser:
    """What a browser does with a link of `ray-slurm dashboard`."""

    def __init__(self, port: int, link: str) -> None:
        self.port = port
        with urllib.request.urlopen(link, timeout=20) as answer:
            self._cookie = answer.headers["Set-Cookie"].partition(";")[0]
            page = answer.read().decode()
        folder = re.search(r"url=(/[^/]+/)", page)
        assert folder, page
        self._base = f"http://127.0.0.1:{port}{folder[1]}"

    def status(self, path: str) -> int:
        """The status of an answer; 0 for none."""
        request = urllib.request.Request(self._base + path, headers={"Cookie": self._cookie})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, HTTPException):
            return 0


def listening_ports(*words: bytes) -> set[int]:
    """Where programs of the edge node listen whose command lines have these words."""
    listening = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            listening[f"socket:[{fields[9]}]"] = int(fields[1].partition(":")[2], 16)
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if all(word in (process / "cmdline").read_bytes().split(b"\0") for word in words):
                found |= {os.readlink(file) for file in (process / "fd").iterdir()}
    return {port for name, port in listening.items() if name in found}


def ready_head(cluster: Cluster) -> Any:
    ready = [report for report in cluster.reports() if report.get("state") == "ready"]
    return ready[0] if ready else None


def service_ports(cluster: Cluster, node_id: str) -> dict[str, int]:
    options = cluster.json(f"nodes/{node_id}/ray-options.json")
    return {key: int(value) for key, value in options.items() if key.endswith("-port")
            or key == "--port"}  # fmt: skip


_SQUAT = """
import selectors, socket, sys, time
wanted = {int(port) for port in sys.argv[1:]}
waiting = selectors.DefaultSelector()
waiting.register(sys.stdin, selectors.EVENT_READ)
while True:
    for port in list(wanted):
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("", port))
            server.listen()
        except OSError:
            server.close()
            continue
        wanted.discard(port)
        waiting.register(server, selectors.EVENT_READ)
        print("listens", port, flush=True)
    for key, _ in waiting.select(0.02):
        if key.fileobj is sys.stdin:
            sys.exit()
        if key.data is None:
            connection, _ = key.fileobj.accept()
            waiting.register(connection, selectors.EVENT_READ, data="connection")
            continue
        try:
            data = key.fileobj.recv(65536)
        except OSError:
            data = b""
        if data:
            print("received", data.hex(), flush=True)
        else:
            waiting.unregister(key.fileobj)
            key.fileobj.close()
"""
