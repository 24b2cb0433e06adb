"""What can never run is said at `ray up`, and nothing is left of the attempt."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import Cluster, Config, config, node_type
from tests.e2e.conftest import MakeCluster
from tests.sandbox_fixture import wait_for

pytestmark = pytest.mark.sandbox


def refused(cluster: Cluster) -> str:
    """What `ray up` says while it refuses, in its own words at the end."""
    done = cluster.up(check=False)

    assert done.code != 0, done.output
    assert "Traceback" not in done.output
    assert cluster.jobs() == {}
    assert not cluster.dir.exists()
    assert list(cluster.dir.parent.glob(f"{cluster.name}*")) == []
    return done.output


@pytest.mark.parametrize("which", ["head", "worker"])
def test_a_partition_that_does_not_exist(make_cluster: MakeCluster, which: str) -> None:
    content = config()
    name = "head" if which == "head" else "cpu"
    content["available_node_types"][name]["node_config"]["partition"] = "nowhere"

    output = refused(make_cluster("nowhere", content))

    assert "invalid partition specified: nowhere" in output
    assert f"'{name}'" in output
    assert "compute" in output  # what there is instead


@pytest.mark.parametrize("options", [
    {"cpus-per-task": 99}, {"mem": "900G"}, {"gres": "gpu:a100:7"}, {"gres": "gpu:h100:1"}
], ids=["cpus", "memory", "gpus", "gpu type"])  # fmt: skip
def test_a_worker_that_can_never_run(make_cluster: MakeCluster, options: Config) -> None:
    content = config({"huge": node_type(max_workers=1, node_config=options)})

    output = refused(make_cluster("never", content))

    assert "Requested node configuration is not available" in output
    assert "'huge'" in output


def test_an_account_that_is_not_the_users(make_cluster: MakeCluster) -> None:
    content = config({"cpu": node_type(max_workers=1, node_config={"account": "nobodys"})})

    output = refused(make_cluster("account", content))

    assert "Invalid account" in output
    assert "research" in output  # what there is instead


@pytest.mark.parametrize(("options", "words"), [
    ({"cpu-per-task": 2}, "cpus-per-task"),
    ({"job-name": "mine"}, "job-name"),
    ({"partition": "compute\n#SBATCH --uid=0"}, "partition"),
], ids=["misspelt", "ours", "injected"])  # fmt: skip
def test_an_option_that_is_none_of_the_users(
    make_cluster: MakeCluster, options: Config, words: str
) -> None:
    content = config({"odd": node_type(max_workers=1, node_config=options)})

    output = refused(make_cluster("odd", content))

    assert words in output
    assert "'odd'" in output


def test_a_worker_that_waits_has_a_reason_people_understand(make_cluster: MakeCluster) -> None:
    waits = node_type(min_workers=1, max_workers=1, node_config={"partition": "down"})
    cluster = make_cluster("waits", config({"waits": waits}))
    cluster.up()
    wait_for(lambda: list(cluster.jobs("waits").values()) == ["PENDING"], 20)

    done = cluster.run("ray-slurm", "status", str(cluster.yaml))

    assert "use another partition" in done.output
