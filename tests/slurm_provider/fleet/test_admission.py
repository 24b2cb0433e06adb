"""Which held nodes may go now."""

from __future__ import annotations

import pytest

from slurm_provider.fleet.admission import UNSURE_S, Admission, admit
from slurm_provider.fleet.brake import BACK_OFF_S, Brake
from slurm_provider.fleet.identity import WORKER
from slurm_provider.fleet.ledger import Node

NOW = 1000.0


def held(count: int = 1, node_type: str = "cpu") -> list[Node]:
    return [
        Node(f"held-{i}", node_type, WORKER, "held", i, held="not submitted yet")
        for i in range(count)
    ]


def waiting(count: int = 1, node_type: str = "cpu", since: float = NOW) -> list[Node]:
    """In the queue."""
    return [
        Node(f"queued-{i}", node_type, WORKER, "queued", i, job_id="7", submitted_at=since)
        for i in range(count)
    ]


@pytest.fixture
def brake() -> Brake:
    return Brake()


def decide(
    nodes: list[Node], others: list[Node], brake: Brake, max_pending: int | None = None
) -> Admission:
    return admit(nodes, [*nodes, *others], brake, max_pending, NOW, listed_at=NOW)


def test_nothing_in_the_way_means_all_go(brake: Brake) -> None:
    nodes = held(5)
    assert decide(nodes, waiting(100), brake).ready == tuple(nodes)


def test_a_paused_type_waits_and_says_why(brake: Brake) -> None:
    brake.pause("cpu", "Invalid partition")
    admission = decide(held(2), [], brake)
    assert admission.ready == () and "Invalid partition" in (admission.reason or "")


def test_another_types_pause_does_not_matter(brake: Brake) -> None:
    brake.pause("gpu", "Invalid partition")
    assert len(decide(held(2), [], brake).ready) == 2


@pytest.mark.parametrize(("queued", "go"), [(0, 3), (1, 2), (2, 1), (3, 0), (9, 0)])
def test_the_queue_is_filled_up_to_the_cap(brake: Brake, queued: int, go: int) -> None:
    admission = decide(held(5), waiting(queued), brake, max_pending=3)
    assert len(admission.ready) == go
    assert admission.reason == "provider.max_pending: 3 jobs wait already"


def test_held_nodes_do_not_count_as_waiting(brake: Brake) -> None:
    assert len(decide(held(2), held(9, "gpu"), brake, max_pending=2).ready) == 2


class TestSuspect:
    """The type failed, and its wait is over."""

    @pytest.fixture
    def brake(self) -> Brake:
        brake = Brake()
        brake.failed("cpu", "bad host", NOW - BACK_OFF_S[0])
        return brake

    def test_one_goes_first(self, brake: Brake) -> None:
        assert len(decide(held(5), [], brake).ready) == 1

    def test_the_others_wait_for_the_one_on_its_way(self, brake: Brake) -> None:
        admission = decide(held(5), waiting(1), brake)
        assert admission.ready == () and "tries it out" in (admission.reason or "")

    def test_nodes_from_before_the_failure_are_not_waited_for(self, brake: Brake) -> None:
        before = waiting(3, since=NOW - 100)
        assert len(decide(held(5), before, brake).ready) == 1

    def test_nodes_of_other_types_are_not_waited_for(self, brake: Brake) -> None:
        assert len(decide(held(5), waiting(1, "gpu"), brake).ready) == 1

    def test_even_one_respects_the_cap(self, brake: Brake) -> None:
        admission = decide(held(5), waiting(2, "gpu"), brake, max_pending=2)
        assert admission.ready == () and "max_pending" in (admission.reason or "")


class TestInDoubt:
    """Their sbatch gave no clear answer."""

    @pytest.mark.parametrize(
        ("listed_at", "goes"),
        [(None, False), (NOW, False), (NOW + UNSURE_S - 1, False), (NOW + UNSURE_S, True)],
    )
    def test_only_a_listing_asked_for_later_settles_it(
        self, brake: Brake, listed_at: float | None, goes: bool
    ) -> None:
        nodes = held(2)
        for node in nodes:
            node.unsure_since = NOW
        admission = admit(nodes, nodes, brake, None, NOW + 10**6, listed_at)
        assert len(admission.ready) == (2 if goes else 0)
        assert admission.reason is None  # they keep the one they have

    def test_the_sure_ones_of_the_same_launch_go(self, brake: Brake) -> None:
        nodes = held(3)
        nodes[1].unsure_since = NOW
        assert decide(nodes, [], brake).ready == (nodes[0], nodes[2])


class TestPortion:
    """Slurm took no more than so many at once."""

    def test_a_part_goes_and_the_others_know_why_they_wait(self, brake: Brake) -> None:
        brake.limited("cpu", 8, "job limit", NOW - BACK_OFF_S[0])
        admission = decide(held(6), [], brake)
        assert len(admission.ready) == 4 and admission.reason == "job limit"

    def test_the_tighter_of_two_limits_is_the_reason(self, brake: Brake) -> None:
        brake.limited("cpu", 8, "job limit", NOW - BACK_OFF_S[0])
        admission = decide(held(6), waiting(1), brake, max_pending=2)
        assert len(admission.ready) == 1 and "max_pending" in (admission.reason or "")
        admission = decide(held(6), waiting(1), brake, max_pending=100)
        assert len(admission.ready) == 4 and admission.reason == "job limit"
