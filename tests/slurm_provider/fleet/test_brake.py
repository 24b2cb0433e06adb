"""A node type that keeps failing is asked for less and less."""

from __future__ import annotations

import json

import pytest

from slurm_provider.fleet.brake import BACK_OFF_S, DEFER_S, Brake, Portion


@pytest.fixture
def brake() -> Brake:
    return Brake()


def fail_until_paused(brake: Brake) -> float:
    """The time at which the type is paused."""
    now = 0.0
    for wait_s in BACK_OFF_S:
        brake.failed("gpu", "no ray on PATH", now)
        now += wait_s
    brake.failed("gpu", "no ray on PATH", now)
    return now


def test_a_type_that_never_failed_is_not_held(brake: Brake) -> None:
    assert brake.hold_reason("gpu", 0) is None
    assert brake.suspect_since("gpu") is None
    assert brake.snapshot() == {}


def test_each_failure_waits_as_long_as_the_table_says(brake: Brake) -> None:
    now = 0.0
    for wait_s in BACK_OFF_S:
        brake.failed("gpu", "broken", now)
        assert brake.hold_reason("gpu", now + wait_s - 0.1) is not None
        assert brake.hold_reason("gpu", now + wait_s) is None
        now += wait_s


def test_the_waits_grow() -> None:
    assert list(BACK_OFF_S) == sorted(set(BACK_OFF_S))


def test_the_reason_names_type_count_wait_and_cause(brake: Brake) -> None:
    brake.failed("gpu", "no ray on PATH", 100.0)
    reason = brake.hold_reason("gpu", 101.0) or ""
    for part in ("'gpu'", "failed once, ", "4 s", "no ray on PATH"):
        assert part in reason


def test_nodes_that_fail_together_are_one_failure(brake: Brake) -> None:
    for n in range(200):
        brake.failed("gpu", "quota", 10.0 + n * 0.01)
    assert brake.snapshot()["gpu"]["failures"] == 1
    assert brake.hold_reason("gpu", 10.0 + BACK_OFF_S[0]) is None


def test_after_the_last_wait_the_type_is_paused_for_good(brake: Brake) -> None:
    now = fail_until_paused(brake)
    assert brake.hold_reason("gpu", now + 10**9) == "node type 'gpu' is paused: no ray on PATH"


def test_a_refusal_pauses_at_once(brake: Brake) -> None:
    brake.pause("gpu", "Invalid partition")
    assert brake.hold_reason("gpu", 10**9) == "node type 'gpu' is paused: Invalid partition"


def test_other_types_are_not_held(brake: Brake) -> None:
    brake.pause("gpu", "Invalid partition")
    assert brake.hold_reason("cpu", 0) is None


def test_a_node_that_joined_clears_its_type(brake: Brake) -> None:
    brake.failed("gpu", "bad host", 0.0)
    assert brake.suspect_since("gpu") == 0.0
    brake.joined("gpu", 0.5)
    assert brake.suspect_since("gpu") is None and brake.hold_reason("gpu", 0.0) is None
    brake.failed("gpu", "bad host", 1.0)
    assert brake.hold_reason("gpu", 1.0 + BACK_OFF_S[0]) is None  # counted from one again


def test_a_type_stays_suspect_after_its_wait(brake: Brake) -> None:
    brake.failed("gpu", "bad host", 0.0)
    assert brake.hold_reason("gpu", 10**6) is None
    assert brake.suspect_since("gpu") == 0.0


def test_a_user_who_mended_it_releases_all(brake: Brake) -> None:
    now = fail_until_paused(brake)
    brake.pause("cpu", "Invalid partition")
    assert brake.release() == {"gpu", "cpu"}
    assert brake.hold_reason("gpu", now) is None and brake.hold_reason("cpu", now) is None


def test_the_latest_cause_and_the_last_five_logs_are_kept(brake: Brake) -> None:
    now = 0.0
    for n, wait_s in enumerate((*BACK_OFF_S, 0.0)):
        brake.failed("gpu", f"cause {n}", now, f"/logs/{n}.log")
        now += wait_s
    state = brake.snapshot()["gpu"]
    assert state["cause"] == "cause 4"
    assert state["where"] == [f"/logs/{n}.log" for n in range(5)]


def test_a_snapshot_is_plain_data_and_does_not_change_later(brake: Brake) -> None:
    brake.failed("gpu", "bad host", 0.0, "/logs/1.log")
    snapshot = brake.snapshot()
    text = json.dumps(snapshot)
    brake.failed("gpu", "bad host", 100.0, "/logs/2.log")
    assert json.dumps(snapshot) == text


def test_a_node_that_joined_before_the_failure_proves_nothing(brake: Brake) -> None:
    brake.failed("gpu", "environment deleted", 100.0)
    brake.joined("gpu", 99.0)
    assert brake.suspect_since("gpu") == 100.0


def test_a_node_that_joins_proves_nothing_about_what_slurm_refuses(brake: Brake) -> None:
    brake.pause("gpu", "Invalid partition")
    brake.joined("gpu", 10**9)
    assert "Invalid partition" in (brake.hold_reason("gpu", 10**9) or "")


def test_what_slurm_does_not_take_for_now_waits_longer_each_time_but_is_never_paused(
    brake: Brake,
) -> None:
    now = 0.0
    for wait_s in (*DEFER_S, DEFER_S[-1], DEFER_S[-1]):
        brake.defer("gpu", "job limit", now)
        assert brake.hold_reason("gpu", now + wait_s - 0.1) == "job limit"
        assert brake.hold_reason("gpu", now + wait_s) is None
        now += wait_s
    assert brake.snapshot() == {} and brake.suspect_since("gpu") is None


def test_a_job_that_slurm_takes_starts_the_waits_again(brake: Brake) -> None:
    for _ in range(5):
        brake.defer("gpu", "job limit", 0.0)
    brake.accepted("gpu", 1)
    assert brake.hold_reason("gpu", 0.0) is None
    brake.defer("gpu", "job limit", 0.0)
    assert brake.hold_reason("gpu", DEFER_S[0]) is None


class TestPortions:
    """More nodes than a quota has room for."""

    def test_after_a_limit_half_as_many_are_asked_for_soon(self, brake: Brake) -> None:
        for count in (60, 30, 15):
            brake.limited("cpu", count, "job limit", 0.0)
            portion = brake.portion("cpu")
            assert portion is not None and portion.size == count // 2
            assert brake.hold_reason("cpu", DEFER_S[0]) is None

    def test_a_single_node_that_is_not_taken_waits_longer_each_time(self, brake: Brake) -> None:
        brake.limited("cpu", 1, "job limit", 0.0)
        brake.limited("cpu", 1, "job limit", 10.0)
        assert brake.portion("cpu") is None
        assert brake.hold_reason("cpu", 10.0 + DEFER_S[0]) == "job limit"

    def test_what_is_taken_makes_the_next_one_larger(self, brake: Brake) -> None:
        brake.limited("cpu", 8, "job limit", 0.0)
        brake.accepted("cpu", 1)  # proves nothing about four
        assert brake.portion("cpu") == Portion(4, "job limit")
        brake.accepted("cpu", 4)
        assert brake.portion("cpu") == Portion(8, "job limit")

    def test_other_types_and_a_user_who_mended_it_are_free(self, brake: Brake) -> None:
        brake.limited("cpu", 8, "job limit", 0.0)
        assert brake.portion("gpu") is None
        brake.release()
        assert brake.portion("cpu") is None
