"""`provider.tls`: who reads the network learns nothing, and who has no certificate gets nowhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

import pytest

from slurm_provider.requirements import OLDEST_RAY_WITH_TLS, version_tuple
from tests.e2e.capture import Capture
from tests.e2e.cluster import Cluster, config, node_type, two_hosts
from tests.e2e.conftest import MakeCluster
from tests.sandbox_fixture import RunningSandbox

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(
        version_tuple(metadata.version("ray")) < OLDEST_RAY_WITH_TLS, reason="refused with this Ray"
    ),
]


@dataclass(frozen=True)
class Seen:
    """A cluster, and what crossed the network while it came up."""

    cluster: Cluster
    capture: Capture


@pytest.fixture(scope="module")
def seen(sandbox: RunningSandbox, make_module_cluster: MakeCluster) -> Iterator[Seen]:
    """With TLS: a head on one host, a worker on another."""
    first, second = two_hosts(sandbox)
    far = node_type(cpus=2, min_workers=1, max_workers=1, resources={"pair": 1},
                    node_config={"nodelist": second})  # fmt: skip
    content = config({"far": far}, tls=True)
    content["available_node_types"]["head"]["node_config"]["nodelist"] = first
    cluster = make_module_cluster("tls", content)
    with Capture() as capture:
        cluster.up()
        cluster.wait_for_workers(1)
    yield Seen(cluster, capture)


def marker(cluster: Cluster) -> str:
    """Text that the programs below make themselves: their own lines go through Slurm in clear."""
    return hashlib.sha256(cluster.name.encode()).hexdigest()


def run_far_away(cluster: Cluster) -> None:
    """A task of a new driver on the head, with the marker as argument, on another host's worker."""
    types = cluster.content["available_node_types"]
    pinned = next(t for t in types.values() if "pair" in t["resources"])["node_config"]["nodelist"]
    # The shared cluster's head is where Slurm put it.
    wanted = "num_gpus=1" if pinned == cluster.head()["host"] else 'resources={"pair": 1}'
    done = cluster.ask(
        f"""
        import hashlib
        @ray.remote({wanted})
        def length(text):
            return [len(text), ray.get_runtime_context().get_node_id()]
        here = ray.get_runtime_context().get_node_id()
        marker = hashlib.sha256({cluster.name!r}.encode()).hexdigest()
        size, there = ray.get(length.remote(marker), timeout=60)
        hosts = {{node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}}
        result = [size, hosts[here], hosts[there]]
        """
    )
    assert done[0] == 64
    assert done[1] != done[2]


def test_without_tls_who_reads_the_network_learns_the_token_and_the_arguments(
    cluster: Cluster,
) -> None:
    """What the next test would find, if there were something to be found."""
    with Capture() as capture:
        run_far_away(cluster)
    assert capture.flows_with(cluster.token().encode())
    assert capture.flows_with(marker(cluster).encode())


def test_with_tls_nothing_of_a_start_a_task_or_a_job_is_readable(seen: Seen) -> None:
    cluster = seen.cluster
    address = f"http://127.0.0.1:{cluster.head()['dashboard_port']}"
    say = f"import hashlib; print(hashlib.sha256({cluster.name!r}.encode()).hexdigest())"
    with Capture() as capture:
        run_far_away(cluster)
        # Its driver is on the worker: by HTTP, the dashboard would ask there for its log.
        cluster.exec(
            f"ray job submit --address {address} --submission-id far --entrypoint-num-cpus 1 "
            f'-- python -c "{say}"'
        )
        log = cluster.exec("ray logs job --id far | grep -cE '^[0-9a-f]{64}$'")
    assert "1" in log.output.splitlines()
    hosts = set(cluster.sandbox.info["hosts"].values())
    for each in (seen.capture, capture):
        between = {
            flow: data for flow, data in each.flows().items() if {flow[0], flow[2]} <= hosts
        }
        assert len(between) > 10
        assert each.flows_with(cluster.token().encode()) == []
        assert each.flows_with(marker(cluster).encode()) == []


@pytest.mark.parametrize(
    ("user", "how"),
    [("user2", "plain"), ("user1", "plain"), ("user1", "no certificate"), ("user1", "certificate")],
)
def test_only_a_client_with_a_certificate_is_answered(seen: Seen, user: str, how: str) -> None:
    """Even with the right token."""
    cluster, head = seen.cluster, seen.cluster.head()
    for port in (head["gcs_address"].rpartition(":")[2], head["client_port"]):
        script = _CLIENT.format(
            address=f"{head['ip']}:{port}", how=how, folder=f"{head['temp_dir']}/tls"
        )
        token = cluster.token() if user == "user1" else ""
        done = cluster.sandbox.run(
            "python", "-", user=user, host=head["host"], stdin=f"token = {token!r}\n{script}",
            check=False,
        )  # fmt: skip
        answer = done.stdout + done.stderr
        if how == "certificate":
            assert "ANSWERED" in done.stdout, answer
        else:
            assert "REFUSED StatusCode.UNAVAILABLE" in done.stdout, answer


_CLIENT = """
import grpc
address, how, folder = {address!r}, {how!r}, {folder!r}
read = lambda name: open(folder + "/" + name, "rb").read()
if how == "plain":
    channel = grpc.insecure_channel(address)
else:
    pair = (read("node.key"), read("node.crt")) if how == "certificate" else (None, None)
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(read("ca.crt"), *pair))
metadata = [("authorization", "Bearer " + token)] if token else []
# Any method: a server that takes no such call says so, which is an answer, too.
call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
try:
    print("ANSWERED", len(call(b"", timeout=10, metadata=metadata)))
except grpc.RpcError as error:
    unavailable = error.code() == grpc.StatusCode.UNAVAILABLE
    print("REFUSED" if unavailable else "ANSWERED", error.code(), error.details())
"""
