"""What squeue may answer, and what is believed of it."""

from __future__ import annotations

import time

import pytest

from slurm_provider.slurm import SlurmError, SlurmMissing, SlurmOutputError, SlurmUnavailable
from tests.slurm_provider.fake_slurm.programs import Bench, SlurmPrograms

HEADER = "\x1f".join(["JOBID"] * 12) + "\x1e\n"
DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
BAD = {
    "nothing, successfully": {},
    "nothing, successfully, with a complaint": {"stderr": DOWN},
    "an error": {"rc": 1, "stderr": DOWN},
    "an error without words": {"rc": 1},
    "a crash": {"rc": 139, "stderr": "Segmentation fault\n"},
    "garbage": {"stdout": "<html><body>502 Bad Gateway</body></html>\n"},
    "another format": {"stdout": "JOBID PARTITION NAME\n7 compute ray\n"},
    "half a record": {"stdout": HEADER + "7\x1f7\x1fRUNN"},
    "a record without its end": {"stdout": HEADER + "\x1f".join(["7"] * 12)},
    "no header": {"stdout": "\x1f".join(["7"] * 12) + "\x1e\n"},
    "a sentence before the time": {"stdout": HEADER + "\x1f".join(["x"] * 12) + "\x1e\n"},
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD.keys())
def test_a_bad_answer_is_an_error_and_no_shorter_list(
    bench: Bench, slurm: SlurmPrograms, answer: dict[str, object]
) -> None:
    slurm.answer("squeue", **answer)  # type: ignore[arg-type]
    with pytest.raises(SlurmError, match="squeue") as caught:
        bench.fleet().nodes()
    assert caught.value.transient or "Segmentation" in str(caught.value)


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD.keys())
def test_on_the_head_a_bad_answer_loses_no_node(
    bench: Bench, slurm: SlurmPrograms, answer: dict[str, object]
) -> None:
    fleet = bench.fleet(watched=True)
    identifiers = bench.launch(fleet, 3)
    slurm.set(state="RUNNING", nodelist="n1")
    bench.tick(fleet)
    slurm.answer("squeue", **answer)  # type: ignore[arg-type]
    for _ in range(4):
        with pytest.raises(SlurmError):
            bench.tick(fleet)
        assert [node.node_id for node in bench.workers(fleet)] == identifiers
    slurm.tell_the_truth("squeue")
    bench.tick(fleet)
    assert [node.is_running for node in bench.workers(fleet)] == [True] * 3
    assert len(slurm.calls("sbatch")) == 1 and slurm.calls("scancel") == []


def test_after_two_minutes_without_an_answer_the_fleet_says_so(
    bench: Bench, slurm: SlurmPrograms
) -> None:
    fleet = bench.fleet(watched=True)
    slurm.answer("squeue", stdout="garbage\n")
    with pytest.raises(SlurmOutputError):
        bench.tick(fleet, seconds=130)
    with pytest.raises(SlurmUnavailable, match=r"no listing from Slurm: squeue: .*garbage"):
        fleet.nodes()


def test_a_listing_without_the_head_is_not_believed(bench: Bench, slurm: SlurmPrograms) -> None:
    fleet = bench.fleet(watched=True)
    bench.launch(fleet)
    slurm.answer("squeue", stdout=HEADER)
    with pytest.raises(SlurmUnavailable, match="without the head"):
        bench.tick(fleet)
    assert len(bench.workers(fleet)) == 1


def test_a_squeue_that_hangs_is_ended(bench: Bench, slurm: SlurmPrograms) -> None:
    slurm.answer("squeue", sleep_s=60)
    begin = time.monotonic()
    with pytest.raises(SlurmUnavailable, match=r"squeue \(here\) did not answer within 0\.3 s"):
        bench.fleet(timeout_s=0.3).nodes()
    assert time.monotonic() - begin < 30


def test_a_slow_squeue_is_waited_for(bench: Bench, slurm: SlurmPrograms) -> None:
    fleet = bench.fleet()
    bench.launch(fleet)
    slurm.answer("squeue", sleep_s=0.7, truth=True)  # a rate limiter says nothing while it waits
    bench.clock.now += 5
    assert len(bench.workers(fleet)) == 1


def test_without_squeue_the_sentence_says_where_and_what_to_do(
    bench: Bench, slurm: SlurmPrograms
) -> None:
    slurm.remove("squeue")
    with pytest.raises(SlurmMissing, match=r"squeue is not on PATH of here\. .*provider\.ssh"):
        bench.fleet().nodes()


@pytest.mark.parametrize(
    ("state", "is_live"),
    [
        ("RUNNING", True),
        ("R", True),
        ("SUSPENDED", True),
        ("STOPPED", True),
        ("SIGNALING", True),
        ("RESIZING", True),
        ("STAGE_OUT", True),
        ("REQUEUE_HOLD", True),
        ("SPECIAL_EXIT", True),
        ("POWERING_UP_NODE", True),
        ("", True),
        ("CANCELLED by 1001", False),
        ("COMPLETING", False),
        ("OUT_OF_MEMORY", False),
        ("DEADLINE", False),
    ],
)
def test_only_a_known_end_is_an_end(
    bench: Bench, slurm: SlurmPrograms, state: str, is_live: bool
) -> None:
    fleet = bench.fleet()
    bench.launch(fleet)
    slurm.set(state=state)
    bench.clock.now += 5
    assert len(bench.workers(fleet)) == is_live


@pytest.mark.parametrize(
    "name",
    [
        "bash",
        "",
        "a|b\x1fc",
        "two\nlines",
        "ray:demo:cpu",
        "ray:demo:cpu:ffffffffffff:worker:abc-0",
    ],
)
def test_other_jobs_of_the_user_are_not_ours(bench: Bench, slurm: SlurmPrograms, name: str) -> None:
    fleet = bench.fleet()
    bench.launch(fleet)
    slurm.add_job(name, "300")
    bench.clock.now += 5
    assert len(fleet.nodes()) == 2  # the head and the worker


def test_jobs_that_are_listed_late_are_waited_for(bench: Bench, slurm: SlurmPrograms) -> None:
    fleet = bench.fleet(watched=True)
    jobs = slurm.jobs
    identifiers = bench.launch(fleet, 3)
    late = slurm.jobs
    slurm.write_jobs(jobs)  # sbatch has answered, squeue does not know them yet
    bench.tick(fleet)
    bench.tick(fleet)
    assert [node.node_id for node in bench.workers(fleet)] == identifiers
    slurm.write_jobs(late)
    bench.tick(fleet)
    assert [node.slurm_id for node in bench.workers(fleet)] == ["101_0", "101_1", "101_2"]
    assert len(slurm.calls("sbatch")) == 1
