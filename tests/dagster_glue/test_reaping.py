"""What the reaping sensor decides; test_reaping_e2e.py has it remove a real cluster."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import datetime, timezone

import dagster as dg
import pytest

from dagster_glue import (
    ClusterInfo,
    ComputeResource,
    LeaseInfo,
    SlurmResource,
    SSHConnectionResource,
    build_reap_sensor,
)
from dagster_glue.reaping import Look, build_reap_job, look
from slurm_provider.errors import ClusterError, ConfigError

GRACE_S = 100.0


def cluster(name: str = "c", *leases: LeaseInfo) -> ClusterInfo:
    return ClusterInfo(name, "slurm", datetime.now(timezone.utc), leases, ())


def lease(age_s: float, *, is_alive: bool) -> LeaseInfo:
    return LeaseInfo("holder", age_s, is_alive)


def test_a_cluster_is_due_when_it_was_without_a_lease_for_the_grace() -> None:
    first = look([cluster()], {}, 1000, GRACE_S)
    assert first == Look(due=(), unleased_since={"c": 1000})
    early = look([cluster()], first.unleased_since, 1099, GRACE_S)
    assert early == Look(due=(), unleased_since={"c": 1000})
    late = look([cluster()], early.unleased_since, 1100, GRACE_S)
    assert late == Look(due=("c",), unleased_since={"c": 1100})


def test_one_look_is_never_enough() -> None:
    assert look([cluster()], {}, 1000, grace_s=0).due == ()


def test_a_removal_that_failed_is_tried_again_a_grace_later() -> None:
    due = look([cluster()], {"c": 1000}, 1100, GRACE_S)
    assert look([cluster()], due.unleased_since, 1199, GRACE_S).due == ()
    assert look([cluster()], due.unleased_since, 1200, GRACE_S).due == ("c",)


def test_a_leased_cluster_is_not_counted() -> None:
    leased = cluster("c", lease(5, is_alive=True), lease(9000, is_alive=False))
    assert look([leased], {"c": 1000}, 2000, GRACE_S) == Look((), {})


def test_a_lease_that_came_and_ran_out_between_two_looks_starts_the_grace_anew() -> None:
    ran_out = cluster("c", lease(60, is_alive=False))
    assert look([ran_out], {"c": 1000}, 2000, GRACE_S) == Look((), {"c": 2000})
    long_ago = cluster("c", lease(5000, is_alive=False))
    assert look([long_ago], {"c": 1000}, 2000, GRACE_S).due == ("c",)


def test_clusters_that_are_gone_are_forgotten() -> None:
    assert look([cluster("b")], {"a": 1, "b": 2000}, 2000, GRACE_S).unleased_since == {"b": 2000}


def test_a_cluster_that_does_not_go_keeps_no_other_one() -> None:
    class Site:
        removed: list[str] = []  # noqa: RUF012

        def clusters(self) -> list[ClusterInfo]:
            return [cluster(name) for name in ("stuck", "left", "idle")]

        def cleanup_cluster(self, cluster_id: str) -> None:
            if cluster_id == "stuck":
                raise ClusterError("Slurm still lists jobs")
            if cluster_id == "left":
                raise ConfigError("there is no cluster 'left' (any more)")
            self.removed.append(cluster_id)

    config = {"ops": {"remove_unleased_clusters": {"config": {
        "cluster_ids": ["stuck", "left", "idle"]}}}}  # fmt: skip
    result = build_reap_job().execute_in_process(
        config, resources={"compute": Site()}, raise_on_error=False
    )
    assert not result.success
    assert Site.removed == ["idle"]


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port of this machine where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_no_answer_decides_nothing_and_keeps_what_was_seen(deaf_port: int) -> None:
    ssh = SSHConnectionResource(host="127.0.0.1", port=deaf_port, config_path="")
    compute = ComputeResource(mode="slurm", slurm=SlurmResource(ssh=ssh))
    cursor = json.dumps({"c": 1.0})
    with dg.build_sensor_context(cursor=cursor, resources={"compute": compute}) as context:
        tick = build_reap_sensor(grace_s=0).evaluate_tick(context)
    assert "It is not known what runs" in str(tick.skip_message)
    assert (tick.run_requests, tick.cursor) == ([], cursor)


def test_the_sensor_brings_its_job_and_asks_for_its_resource_by_name() -> None:
    compute = ComputeResource(mode="local")
    sensor = build_reap_sensor("cluster", name="reap_mine")
    defs = dg.Definitions(sensors=[sensor], resources={"cluster": compute})
    dg.Definitions.validate_loadable(defs)
    assert defs.resolve_job_def("reap_mine")
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="'cluster'"):
        dg.Definitions.validate_loadable(dg.Definitions(sensors=[sensor]))
