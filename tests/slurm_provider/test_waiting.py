"""What is shown while a node waits in Slurm's queue."""

from __future__ import annotations

import time

import pytest

from slurm_provider.access import waiting_words
from slurm_provider.fleet.ledger import Node
from slurm_provider.slurm import Job, JobState

NOON = time.mktime((2026, 11, 23, 12, 0, 0, 0, 0, -1))


def node(
    job_id: str, reason: str = "Priority", start: float | None = None, partition: str = "compute"
) -> Node:
    job = Job(job_id, "1", JobState.PENDING, reason, partition, "", None, start, None, None, 1, "x")
    return Node(job_id, "cpu", "worker", "launch", 0, job=job)


def test_a_job_waits_with_its_own_reason_and_expected_start() -> None:
    words = waiting_words(node("42", "Priority", NOON), [node("41", "PartitionDown")])
    assert words.startswith("job 42 waits in partition compute: ")
    assert words.endswith("(expected start 23 Nov 12:00)")


@pytest.mark.parametrize("reason", ["PartitionDown", "QOSMaxJobsPerUserLimit", "JobHeldUser"])
def test_a_heterogeneous_job_waits_for_the_component_that_is_hardest_to_have(reason: str) -> None:
    head, other = node("106+0", "Resources", NOON), node("106+1", reason, partition="gpu")
    words = waiting_words(head, [head, other, node("99+1", "JobHeldAdmin")])
    assert words.startswith("job 106+1 waits in partition gpu: ")


def test_a_heterogeneous_job_starts_when_its_last_component_can() -> None:
    head, other = node("106+0", start=NOON), node("106+1", start=NOON + 3600)
    assert waiting_words(head, [head, other]).endswith("(expected start 23 Nov 13:00)")
    other = node("106+1", start=None)
    assert "expected start" not in waiting_words(head, [head, other])
