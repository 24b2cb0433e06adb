"""Which cluster of a session is used, and what is made where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dagster_glue import BashLauncher, ExecutionMode, RayLauncher, SlurmQueueConfig
from dagster_glue.cluster_config import ClusterPlan, cluster_config
from dagster_glue.clusters.choice import LEAST_TIME_LEFT_S, Wish, choose, free_names, has_time_left
from dagster_glue.clusters.shape import fingerprint, shape_of
from dagster_glue.clusters.site import ClusterFolder, LeaseFile, Sighting
from dagster_glue.launchers import Launcher
from slurm_provider.fleet.identity import HEAD, JobIdentity
from slurm_provider.slurm import Job, JobState

NOW = 1_000_000.0


def shape(cpus: int = 1, launcher: Launcher | None = None) -> dict[str, Any]:
    launcher = launcher or RayLauncher(num_cpus_per_node=cpus)
    mode = ExecutionMode.SLURM_SESSION
    return shape_of(cluster_config(ClusterPlan("a", mode, launcher, SlurmQueueConfig(), "/a")))


def wish(cpus: int = 1, *, reuse: bool = False, **more: Any) -> Wish:
    return Wish("session", shape(cpus), reuse, lease_key="step", **more)


def cluster(
    name: str,
    cpus: int = 1,
    *,
    state: JobState | None = JobState.RUNNING,
    left_s: float = 3000.0,
    limit_s: int | None = 3600,
    session: str = "session",
    is_closing: bool = False,
    lease: str | None = None,
) -> Sighting:
    folder = ClusterFolder(
        name=name,
        uuid=name,
        age_s=100,
        session=replace(wish(cpus), session=session).descriptor(),
        head={"node_id": "h-0"},
        is_closing=is_closing,
        has_edge_head=False,
        leases=() if lease is None else (LeaseFile(lease, "somebody", 600, 700),),
    )
    jobs = []
    if state is not None:
        end = None if state.is_pending else NOW + left_s
        job = Job("7", "7", state, "", "p", "n1", NOW, NOW, end, limit_s, 1, "name")
        jobs.append((job, JobIdentity(name, "head", name, HEAD, "h", 0)))
    return Sighting(folder, jobs, now=NOW)


def chosen(there: list[Sighting], wanted: Wish) -> str | None:
    found = choose(there, wanted)
    return None if found is None else found.name


def test_without_reuse_only_the_same_shape_is_taken() -> None:
    there = [cluster("small", 1), cluster("large", 8)]
    assert chosen(there, wish(1)) == "small"
    assert chosen(there, wish(8)) == "large"
    assert chosen(there, wish(4)) is None


def test_with_reuse_the_same_shape_comes_first_then_the_smallest_that_is_large_enough() -> None:
    there = [cluster("huge", 32), cluster("large", 8), cluster("small", 1)]
    assert chosen(there, wish(1, reuse=True)) == "small"
    assert chosen(there, wish(4, reuse=True)) == "large"
    assert chosen(there, wish(32, reuse=True)) == "huge"
    assert chosen(there, wish(33, reuse=True)) is None


def test_another_session_s_cluster_is_left_to_it() -> None:
    assert chosen([cluster("other", session="theirs")], wish(reuse=True)) is None


@pytest.mark.parametrize(
    "unusable",
    [
        {"is_closing": True},
        {"state": JobState.COMPLETING},
        {"state": JobState.TIMEOUT},
        {"state": None},
        {"left_s": 100.0},
    ],
)
def test_what_goes_or_is_not_seen_is_not_taken(unusable: dict[str, Any]) -> None:
    assert chosen([cluster("a", **unusable)], wish()) is None


def test_a_head_that_waits_or_has_no_limit_is_taken() -> None:
    assert chosen([cluster("a", state=JobState.PENDING)], wish()) == "a"
    assert chosen([cluster("a", limit_s=None, left_s=1.0)], wish()) == "a"


@pytest.mark.parametrize(
    ("limit_s", "left_s", "enough"),
    [
        (36000, LEAST_TIME_LEFT_S + 1, True),
        (36000, LEAST_TIME_LEFT_S - 1, False),
        (600, 61, True),
        (600, 59, False),
    ],
)
def test_a_head_has_to_last_for_a_while(limit_s: int, left_s: float, enough: bool) -> None:
    assert has_time_left(cluster("a", limit_s=limit_s, left_s=left_s)) is enough


def test_a_step_goes_back_to_the_cluster_of_its_earlier_attempt() -> None:
    before = cluster("before", 8, left_s=10.0, lease="step-1234")
    there = [cluster("a"), before]
    assert chosen(there, wish(reuse=True)) == "before"
    assert chosen(there, replace(wish(reuse=True), lease_key="other")) == "a"


def test_with_reuse_the_default_s_shape_is_made_where_it_is_large_enough() -> None:
    large = shape(8)
    assert wish(1, reuse=True, larger=large).shape_to_make == large
    assert wish(1, reuse=False, larger=large).shape_to_make == shape(1)
    assert wish(9, reuse=True, larger=large).shape_to_make == shape(9)
    assert wish(1, reuse=True, larger=shape(launcher=BashLauncher())).shape_to_make == shape(1)


def test_names_are_those_of_the_session_and_the_shape() -> None:
    first, second = free_names(wish())[:2]
    assert first == f"session-{fingerprint(shape())}"
    assert second == f"{first}-2"
