"""Several Ray nodes on one host: of one cluster, of several, of several users."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import Cluster, config, node_type
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.sandbox


def test_nodes_of_one_cluster_and_of_two_users_work_on_one_host(
    cluster: Cluster, make_cluster: MakeCluster
) -> None:
    place = cluster.content["available_node_types"]["pair"]["node_config"]["nodelist"]
    one = node_type(node_config={"nodelist": place}, min_workers=1, max_workers=1)
    theirs = make_cluster("theirs", config({"one": one}), user="user2")
    theirs.up()
    program = cluster.folder / "driver.py"
    program.write_text(_DRIVER)
    wish = '{"pair": 0.1}'

    with theirs.asking(_ONE) as their_task:
        ours = cluster.ask(_PAIR)
        # Ray takes a driver to any node of its cluster on the host, and one of these two may go.
        cluster.wait_for_workers(1)
        cluster.exec(f"ray job submit --entrypoint-resources '{wish}' -- python {program}")
        output, _ = their_task.communicate(timeout=90)

    assert [host for host, _ in ours] == [place, place]
    assert len({node for _, node in ours}) == 2
    assert f'RESULT "{place}"' in output
    # The driver ran on a worker and connected to Ray there.
    assert (cluster.folder / "driver.txt").read_text() == f"{place} 42"


_PAIR = """
@ray.remote(num_cpus=0, resources={"pair": 1})
class Member:
    def where(self):
        import socket
        return socket.gethostname(), os.environ["RAY_CLOUD_INSTANCE_ID"]
members = [Member.remote() for _ in range(2)]
result = ray.get([member.where.remote() for member in members])
"""

_DRIVER = """
import pathlib, socket, ray
ray.init()
answer = ray.get(ray.remote(num_cpus=0)(lambda: 42).remote())
pathlib.Path(__file__).with_suffix(".txt").write_text(f"{socket.gethostname()} {answer}")
"""

_ONE = """
@ray.remote(num_cpus=1)
def where():
    import socket
    return socket.gethostname()
result = ray.get(where.remote())
"""
