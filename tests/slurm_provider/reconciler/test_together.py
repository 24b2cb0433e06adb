"""A head and its first workers as one heterogeneous job: made once, adopted, replaced singly."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from slurm_provider.config import parse_provider
from slurm_provider.fleet.edge import EdgeHead
from slurm_provider.fleet.fleet import Fleet
from slurm_provider.fleet.identity import HEAD, WORKER, JobIdentity, parse_job_name
from slurm_provider.fleet.launch import LaunchRequest
from slurm_provider.slurm import Component, JobState, SlurmRefused, SlurmUnavailable, Submission
from slurm_provider.transport import LocalTransport
from tests.slurm_provider.reconciler.head import HeadNode
from tests.slurm_provider.reconciler.slurm_in_memory import NO_ANSWER

PROVIDER = {"start_together": True, "defaults": {"partition": "compute"}}


def request(kind: str, node_type: str) -> LaunchRequest:
    return LaunchRequest(kind, node_type, {"time": "5"}, {"CPU": 1}, {}, {}, None)


WORKERS = [(request(WORKER, "cpu"), 2), (request(WORKER, "gpu"), 1)]


@pytest.fixture
def command(head: HeadNode) -> Fleet:
    """The fleet as `ray up` has it; nothing of the first head's is looked at."""
    uuid = head.store.uuid()
    assert uuid is not None
    transport = LocalTransport()
    return Fleet(
        head.slurm, head.store, EdgeHead(transport, head.store), parse_provider(PROVIDER), "demo",  # type: ignore[arg-type]
        uuid, clock=head.clock, sleep=lambda s: setattr(head.clock, "now", head.clock.now + s),
    )  # fmt: skip


def launch(fleet: Fleet) -> list[str]:
    return fleet.launch_together(request(HEAD, "head"), WORKERS, "/code.zip", {})


def test_all_of_them_are_one_submission_and_each_job_says_which_node_it_is(
    command: Fleet, head: HeadNode
) -> None:
    identifiers = launch(command)
    (submission,) = head.slurm.submissions
    jobs = [job for job in head.slurm.queue() if "+" in job.job_id]
    names = [parse_job_name(job.name) for job in jobs]
    assert [f"{name.launch}-{name.index}" for name in names if name] == identifiers
    assert [name.node_type for name in names if name] == ["head", "cpu", "cpu", "gpu"]
    assert [node.slurm_id for node in command.nodes() if node.node_id in identifiers] == [
        job.job_id for job in jobs
    ]
    signals = [dict(part.provider_options).get("signal") for part in submission.more_components]
    assert signals == [None, None, None]  # there is no batch script to take one


def test_the_head_s_agent_is_told_whom_to_start(command: Fleet, head: HeadNode) -> None:
    head_id, *others = launch(command)
    path = head.store.paths.launch(head_id.rpartition("-")[0])
    spec = json.loads(head.store.transport.read_file(path))
    assert [f"{launch}-{index}" for launch, index in spec["components"]] == others


def test_a_job_that_turns_up_after_a_lost_answer_is_not_submitted_again(
    command: Fleet, head: HeadNode
) -> None:
    def carried_out(submission: Submission) -> None:
        head.slurm.carry_out(submission)
        raise NO_ANSWER

    head.slurm.answer_submit = carried_out
    launch(command)
    assert len(head.slurm.submissions) == 1
    assert len([job for job in head.slurm.queue() if "+" in job.job_id]) == 4


@pytest.mark.parametrize("error", [SlurmRefused("no"), SlurmUnavailable("away")])
def test_nothing_stays_of_a_job_that_was_not_made(
    command: Fleet, head: HeadNode, error: Exception
) -> None:
    def refuse(submission: Submission) -> None:
        raise error

    head.slurm.answer_submit = refuse
    with pytest.raises(type(error)):
        launch(command)
    assert [node.kind for node in command.nodes()] == [HEAD]  # the one that was there before


@pytest.fixture
def together(make_head: Callable[..., HeadNode]) -> HeadNode:
    """A running head whose two workers `cpu` started with it, and no demand."""
    head: HeadNode = make_head(start_together=True)
    head.config["available_node_types"]["cpu"]["min_workers"] = 2
    uuid = head.store.uuid()
    assert uuid is not None
    names = [
        JobIdentity("demo", "cpu", uuid, WORKER, "workerlnch", index).job_name for index in (0, 1)
    ]
    parts: list[Any] = [Component({}, {"job-name": name}) for name in names]
    head.slurm.starts_as = JobState.RUNNING
    head.slurm.carry_out(
        Submission("s.sh", provider_options={"job-name": "other"}, more_components=parts)
    )
    head.slurm.starts_as = JobState.PENDING
    head.start_monitor()
    return head


def test_the_autoscaler_keeps_what_started_with_the_head_and_asks_for_no_more(
    together: HeadNode,
) -> None:
    together.tick(2)
    for job in together.slurm.workers():
        together.join(job, busy=False)
    together.tick(400)
    assert len(together.listed) == 3
    assert together.slurm.submissions == [] and together.slurm.cancelled == []


def test_a_component_that_dies_is_replaced_by_a_job_of_its_own(together: HeadNode) -> None:
    lost, kept = together.slurm.workers()
    for job in (lost, kept):
        together.join(job)
    together.tick(3)
    together.raylet_dies("workerlnch-0")
    together.tick(20)
    assert together.slurm.cancelled == [lost.job_id]
    (submission,) = together.slurm.submissions
    assert submission.more_components == ()
    assert {job.job_id for job in together.slurm.workers()} > {kept.job_id}
