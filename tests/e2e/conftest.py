"""Real Slurm, real Ray: clusters that the tests share, and the making of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, config, node_type
from tests.sandbox_fixture import RunningSandbox, sandbox

__all__ = ["sandbox"]

MakeCluster = Callable[..., Cluster]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The quick start fills three hosts, so it comes before the cluster that others share."""
    items.sort(key=lambda item: item.path.name != "test_quickstart.py")


@pytest.fixture(scope="session")
def cluster(sandbox: RunningSandbox) -> Iterator[Cluster]:
    """A cluster that is up, for all tests that leave it up.

    It always has one worker, of type ``steady``; workers ``cpu`` and ``gpu`` come with demand.
    """
    hosts = sorted(sandbox.info["hosts"])
    host = hosts[len(hosts) // 2]  # Slurm fills the first ones first
    types = {
        "pair": node_type(
            max_workers=2, idle_timeout_s=4, resources={"pair": 1}, node_config={"nodelist": host}
        ),
        "steady": node_type(max_workers=1, min_workers=1, resources={"steady": 1}),
        "cpu": node_type(cpus=2, max_workers=4, idle_timeout_s=4),
        "gpu": node_type(
            max_workers=1, idle_timeout_s=4,
            node_config={"gres": "gpu:a100:1", "partition": "gpu"},
            labels={"team": "vision"},
        ),
    }  # fmt: skip
    # Ray gives a client's server 30 s to start, which two busy cores may not keep.
    env = {"RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "90"}
    yield from _running(Cluster(sandbox, "main", config(types, env=env)))


@pytest.fixture
def make_cluster(sandbox: RunningSandbox) -> Iterator[MakeCluster]:
    """Make clusters (not up yet) for one test, which are removed after it."""
    yield from _making(sandbox)


@pytest.fixture(scope="module")
def make_module_cluster(sandbox: RunningSandbox) -> Iterator[MakeCluster]:
    """The same for the tests of a file."""
    yield from _making(sandbox)


def _making(sandbox: RunningSandbox) -> Iterator[MakeCluster]:
    made: list[Cluster] = []

    def make(purpose: str, content: Any = None, **keys: Any) -> Cluster:
        made.append(Cluster(sandbox, purpose, config() if content is None else content, **keys))
        return made[-1]

    yield make
    problems = []
    for cluster in reversed(made):
        try:
            cluster.remove()
        except AssertionError as problem:
            problems.append(f"{cluster.name}: {problem}")
    assert not problems, "\n".join(problems)


def _running(cluster: Cluster) -> Iterator[Cluster]:
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.remove()
