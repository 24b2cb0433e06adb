"""Commands and files that a YAML wants on the nodes before Ray starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Cluster, config, node_type, two_hosts
from tests.e2e.conftest import MakeCluster
from tests.sandbox_fixture import RunningSandbox

pytestmark = pytest.mark.sandbox

HEAD, WORKER = 0, 1  # positions in `two_hosts`


@pytest.fixture(scope="module")
def prepared(
    sandbox: RunningSandbox, make_module_cluster: MakeCluster
) -> Iterator[Cluster]:
    """A cluster with a worker on another host than its head; all leave traces on both disks."""
    first, second = two_hosts(sandbox)
    content = config({"cpu": node_type(min_workers=1, max_workers=1,
                                       node_config={"nodelist": second})})  # fmt: skip
    content["available_node_types"]["head"]["node_config"]["nodelist"] = first
    cluster = make_module_cluster("setup", content)
    base = f"/tmp/{cluster.name}"
    (cluster.folder / "data").mkdir()
    (cluster.folder / "data" / "table").write_text("rows")
    (cluster.folder / "one.txt").write_text("one file")
    content |= {
        "file_mounts": {
            f"{base}/data": str(cluster.folder / "data"),
            f"{base}/one.txt": str(cluster.folder / "one.txt"),
        },
        "initialization_commands": [f"mkdir -p {base} && echo initialization >> {base}/trace"],
        "setup_commands": [f"echo setup >> {base}/trace"],
        "head_setup_commands": [f"echo head-setup >> {base}/trace"],
        # Mounts are there before, and Ray's Python is on PATH.
        "worker_setup_commands": [
            f"cat {base}/data/table > /dev/null && command -v ray > /dev/null",
            f"echo worker-setup >> {base}/trace",
        ],
    }
    cluster.content.update(content)
    cluster.write()
    try:
        cluster.up()
        cluster.wait_for_workers(1)
        yield cluster
    finally:
        for host in (first, second):
            cluster.sandbox.run("rm", "-rf", base, host=host)


@pytest.mark.parametrize(("node", "trace"), [
    (HEAD, ["initialization", "setup", "head-setup"]),
    (WORKER, ["initialization", "setup", "worker-setup"]),
], ids=["head", "worker"])  # fmt: skip
def test_each_command_ran_once_and_in_order(prepared: Cluster, node: int, trace: list[str]) -> None:
    host = two_hosts(prepared.sandbox)[node]
    done = prepared.sandbox.run("cat", f"/tmp/{prepared.name}/trace", host=host)

    assert done.stdout.split() == trace


@pytest.mark.parametrize("node", [HEAD, WORKER], ids=["head", "worker"])
def test_file_mounts_are_on_the_nodes_own_disk(prepared: Cluster, node: int) -> None:
    base, host = f"/tmp/{prepared.name}", two_hosts(prepared.sandbox)[node]

    done = prepared.sandbox.run("cat", f"{base}/data/table", f"{base}/one.txt", host=host)

    assert done.stdout == "rowsone file"


def test_a_failing_setup_command_of_the_head_is_one_clear_error(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("badsetup")
    cluster.content["head_setup_commands"] = ["echo what went wrong $((40+2)); exit 4"]
    cluster.write()

    done = cluster.up(check=False)

    assert done.code != 0
    assert "what went wrong 42" in done.output  # not the command, which the message names too
    assert "exit code 4" in done.output
    assert "Traceback" not in done.output


def test_an_environment_without_ray_is_one_clear_error(make_cluster: MakeCluster) -> None:
    cluster = make_cluster("bareenv")
    (cluster.folder / "env" / "bin").mkdir(parents=True)
    cluster.content["provider"]["environment"] = {"prefix": str(cluster.folder / "env")}
    cluster.write()

    done = cluster.up(check=False)

    assert done.code != 0
    assert f"there is no {cluster.folder}/env/bin/ray on n" in done.output
    assert "(provider.environment)" in done.output
    assert "Traceback" not in done.output
