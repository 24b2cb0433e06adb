from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dagster_glue.metrics.intervals import Window
from dagster_glue.metrics.unaccounted import measure_unaccounted
from dagster_glue.metrics.usage import Usage, allocated_gpus, is_complete, measure
from slurm_provider.slurm import Job, JobRecord, JobState, StepRecord

GIB = 1 << 30
WHOLE = Window(0, 10_000)


def step(name: str = "batch", **keys: Any) -> StepRecord:
    values: dict[str, Any] = {
        "state": JobState.COMPLETED, "exit_code": 0, "exit_signal": 0, "elapsed_s": 100,
        "cpus": 2, "total_cpu_s": 50.0, "max_rss_bytes": GIB,
    }  # fmt: skip
    return StepRecord(step=name, **{**values, **keys})


def job(
    job_id: str = "1", start: float | None = 100, end: float | None = 200, **keys: Any
) -> JobRecord:
    """A job that ran with two CPUs on one node and used half of them."""
    ran_s = 0 if start is None else int((end or 1000) - start)
    values: dict[str, Any] = {
        "raw_id": job_id, "name": "ray", "state": JobState.COMPLETED if end else JobState.RUNNING,
        "exit_code": 0, "exit_signal": 0, "reason": "None", "elapsed_s": ran_s, "cpus": 2,
        "total_cpu_s": float(ran_s), "nodelist": "n1", "partition": "compute", "account": "a",
        "submit_time": 90.0, "start_time": start, "end_time": end,
        "allocated": {"cpu": "2", "mem": "2G", "node": "1"},
        "steps": (step(total_cpu_s=float(ran_s), elapsed_s=ran_s),) if end else
                 (step(state=JobState.RUNNING, total_cpu_s=0.0, max_rss_bytes=None),),
    }  # fmt: skip
    return JobRecord(job_id=job_id, **{**values, **keys})


def usage(*records: JobRecord, window: Window = WHOLE, shared: bool = False,
          also: tuple[str, ...] = ()) -> Usage:  # fmt: skip
    ids = [record.job_id for record in records]
    return measure(dict(zip(ids, records, strict=True)), [*ids, *also], window, shared=shared)


def test_all_steps_of_all_jobs_count() -> None:
    """Not only the batch steps, and not only the head."""
    steps = (step(total_cpu_s=10.0), step("0", total_cpu_s=50.0, max_rss_bytes=5))
    head = job("1", 100, 300, cpus=1, total_cpu_s=60.0, steps=steps)
    worker = job("2", 150, 250, cpus=4, total_cpu_s=340.0, steps=(step(total_cpu_s=340.0),))
    found = usage(head, worker)
    assert found.cpu_efficiency.value == pytest.approx((60 + 340) / (1 * 200 + 4 * 100))
    assert found.elapsed.value == 200
    assert found.node_hours.value == pytest.approx(300 / 3600)
    assert found.cpu_hours.value == pytest.approx(600 / 3600)
    assert all(f.is_exact for f in (found.cpu_efficiency, found.elapsed, found.node_hours))


def test_a_job_on_several_nodes_counts_each() -> None:
    record = job("1", 100, 200, allocated={"node": "3", "cpu": "6"}, cpus=6)
    assert usage(record).node_hours.value == pytest.approx(300 / 3600)


def test_peaks_are_the_greatest_step_and_add_up_over_nodes_at_the_same_time() -> None:
    one = job("1", 100, 200, steps=(step(max_rss_bytes=2 * GIB), step("0", max_rss_bytes=GIB)))
    two = job("2", 150, 300, steps=(step(max_rss_bytes=3 * GIB),))
    after = job("3", 300, 400, steps=(step(max_rss_bytes=4 * GIB),))
    found = usage(one, two, after)
    assert (found.peak_memory_bytes.value, found.peak_memory_bytes.why) == (4 * GIB, "")
    assert (found.total_memory_bytes.value, found.total_memory_bytes.why) == (5 * GIB, "")


def test_memory_of_a_step_with_perhaps_several_tasks_is_a_lower_bound() -> None:
    record = job("7", steps=(step(max_rss_bytes=GIB), step("0", max_rss_bytes=2 * GIB)))
    found = usage(record)
    assert found.peak_memory_bytes.value == 2 * GIB
    assert "only the greatest task" in found.peak_memory_bytes.why
    assert found.total_memory_bytes.value is None


def test_memory_is_unknown_where_a_site_does_not_sample_it() -> None:
    found = usage(job("7", steps=(step(max_rss_bytes=None, total_cpu_s=100.0),)))
    assert found.peak_memory_bytes.value is None
    assert found.peak_memory_bytes.why == "no memory of job 7 is accounted"
    assert found.cpu_efficiency.value == 0.5


def test_cpu_time_is_unknown_where_a_site_does_not_account_it() -> None:
    found = usage(job("7", total_cpu_s=0.0, steps=(step(total_cpu_s=0.0, max_rss_bytes=None),)))
    assert found.cpu_efficiency.value is None
    assert found.cpu_efficiency.why == "what job 7 used is not accounted"


def test_a_node_that_died_leaves_no_cpu_time() -> None:
    found = usage(job("1"), job("7", state=JobState.NODE_FAIL))
    assert found.cpu_efficiency.value is None
    assert "7 died with its node" in found.cpu_efficiency.why
    assert found.node_hours.is_exact


def test_while_a_job_runs_its_efficiency_is_unknown_and_its_time_a_lower_bound() -> None:
    found = usage(job("1"), job("2", 100, None))
    assert found.cpu_efficiency.value is None
    assert "job 2 has not ended" in found.cpu_efficiency.why
    assert found.node_hours.value == pytest.approx((100 + 900) / 3600)
    assert found.node_hours.why == "job 2 still runs"


def test_a_job_accounting_does_not_know_makes_every_sum_a_lower_bound() -> None:
    found = usage(job("1"), also=("2",))
    assert found.missing == ("2",)
    assert found.node_hours.value == pytest.approx(100 / 3600)
    for figure in (found.node_hours, found.cpu_hours, found.gpu_hours, found.elapsed,
                   found.peak_memory_bytes, found.queue_wait):  # fmt: skip
        assert figure.why == "accounting does not know job 2"
    assert found.cpu_efficiency.value is None


def test_gpus_are_the_most_at_a_time_and_their_hours_the_sum() -> None:
    gpus = {"node": "1", "gres/gpu": "2", "gres/gpu:a100": "2"}
    found = usage(job("1", 100, 200, allocated=gpus), job("2", 200, 300, allocated=gpus),
                  job("3", 250, 300))  # fmt: skip
    assert found.gpus.value == 2
    assert found.gpu_hours.value == pytest.approx(400 / 3600)
    assert allocated_gpus({"gres/gpu:a100": "2", "gres/gpu:h100": "1"}) == 3


def test_the_longest_wait_in_the_queue_counts() -> None:
    found = usage(job("1", 100, 200), job("2", 500, 600), job("3", None, 700))
    assert found.queue_wait.value == 410
    assert [j.queue_wait_s for j in found.jobs] == [10, 410, None]


def test_tasks_of_an_array_that_never_started_are_one_record_and_cost_nothing() -> None:
    record = job("2_[1-2]", None, 700, state=JobState.CANCELLED, steps=())
    found = measure({"2_1": record, "2_2": record, "1": job("1")}, ["2_1", "2_2", "1"], WHOLE,
                    shared=False)  # fmt: skip
    assert len(found.jobs) == 2
    assert found.node_hours.value == pytest.approx(100 / 3600)
    assert found.cpu_efficiency.is_exact


def test_of_a_shared_cluster_only_the_time_window_counts() -> None:
    head = job("1", 0, None, elapsed_s=1000)
    worker = job("2", 450, 520, cpus=4)
    before = job("3", 100, 390)
    found = usage(head, worker, before, window=Window(400, 500), shared=True)
    assert [j.record.job_id for j in found.jobs] == ["1", "2"]
    assert [j.elapsed_s for j in found.jobs] == [100, 50]
    assert found.elapsed.value == 100
    assert found.node_hours.value == pytest.approx(150 / 3600)
    assert found.node_hours.is_exact
    assert found.cpu_hours.value == pytest.approx((2 * 100 + 4 * 50) / 3600)
    assert "job 1 has not ended" in found.cpu_efficiency.why


def test_elapsed_is_when_jobs_ran_and_not_when_they_waited() -> None:
    """Seen: 37.7 s for a session's cluster that began 31 s later and ran for 6 s of the step."""
    step_window = Window(62.3, 100)
    late = job("1", 94, None, elapsed_s=6, submit_time=63)
    assert usage(late, window=step_window, shared=True).elapsed.value == pytest.approx(6)
    with_gap = (job("1", 100, 200), job("2", 150, 250), job("3", 400, 450))
    assert usage(*with_gap).elapsed.value == 200
    assert usage(*with_gap, window=Window(180, 420), shared=True).elapsed.value == 90


def test_elapsed_is_exact_where_no_missing_job_could_add_to_it() -> None:
    warm, window = job("1", 0, None, elapsed_s=1000), Window(400, 500)
    assert usage(warm, also=("2",), window=window, shared=True).elapsed.is_exact
    late = usage(job("1", 450, None), also=("2",), window=window, shared=True).elapsed
    assert (late.value, late.why) == (50, "accounting does not know job 2")


def test_a_step_that_ends_after_its_job_counts_in_the_time_of_its_cpus() -> None:
    """Seen: 113 % of a job of 4 s with a batch step of 6 s."""
    steps = (step(total_cpu_s=4.536, elapsed_s=6),)
    short = job("1", 100, 104, cpus=1, total_cpu_s=4.536, steps=steps)
    assert usage(short).cpu_efficiency.value == pytest.approx(4.536 / 6)


def test_cpu_time_above_what_was_allocated_is_busy_cpus_unless_rounding_cannot_explain_it() -> None:
    def efficiency(cpu_s: float) -> float | None:
        steps = (step(total_cpu_s=cpu_s, elapsed_s=4),)
        short = job("1", 100, 104, cpus=2, total_cpu_s=cpu_s, steps=steps)
        return usage(short).cpu_efficiency.value

    assert [efficiency(cpu_s) for cpu_s in (6.0, 8.0, 9.9, 16.0)] == [0.75, 1.0, 1.0, 2.0]


def test_jobs_are_in_the_order_of_their_ids() -> None:
    found = usage(job("73_1"), job("70"), job("73_0"), job("9"))
    assert [j.record.job_id for j in found.jobs] == ["9", "70", "73_0", "73_1"]


def test_of_a_shared_cluster_a_job_that_was_there_for_others_gives_no_efficiency() -> None:
    found = usage(job("2", 450, 520), window=Window(400, 500), shared=True)
    assert found.cpu_efficiency.value is None
    assert "also ran outside" in found.cpu_efficiency.why
    assert found.peak_memory_bytes.value is None
    inside = usage(job("2", 450, 490), window=Window(400, 500), shared=True)
    assert inside.cpu_efficiency.value == 0.5


def test_waits_of_jobs_submitted_before_the_window_are_not_the_runs() -> None:
    warm = job("1", 0, None, elapsed_s=1000, submit_time=-500)
    grown = job("2", 450, 480, submit_time=430)
    window = Window(400, 500)
    assert usage(warm, window=window, shared=True).queue_wait.value == 0
    assert usage(warm, grown, window=window, shared=True).queue_wait.value == 20


def test_a_record_is_complete_when_all_its_steps_are() -> None:
    done = job("1")
    assert is_complete(done)
    late = replace(done, steps=(step(), step("0", state=JobState.RUNNING)))
    assert not is_complete(late)
    assert not is_complete(replace(done, steps=()))
    lent = step(state=JobState.CANCELLED, total_cpu_s=0.0, max_rss_bytes=None)
    assert not is_complete(replace(done, state=JobState.CANCELLED, steps=(lent,)))
    short = step(state=JobState.CANCELLED, total_cpu_s=0.003, max_rss_bytes=None)
    external = step("extern", total_cpu_s=0.0, max_rss_bytes=None)
    assert is_complete(replace(done, state=JobState.CANCELLED, steps=(short, external)))
    assert not is_complete(job("1", 100, None))
    assert is_complete(job("1", None, 200, state=JobState.CANCELLED, steps=()))


def queued(job_id: str, state: JobState, start: float | None, end: float | None) -> Job:
    return Job(
        job_id=job_id, raw_id=job_id, state=state, reason="None", partition="compute",
        nodelist="n1", submit_time=90.0, start_time=start, end_time=end, time_limit_s=3600, cpus=2,
        name="ray",
    )  # fmt: skip


def test_without_accounting_times_are_known_and_the_rest_is_unknown() -> None:
    jobs = [
        queued("1", JobState.COMPLETED, 100, 200),
        queued("2", JobState.RUNNING, 150, 3750),  # ends at its limit
        queued("3", JobState.PENDING, 900, None),  # expected to start
    ]
    found = measure_unaccounted(
        jobs, ["1", "2", "3"], Window(50, 250), shared=False, why="no accounting here"
    )
    assert found.node_hours.value == pytest.approx(200 / 3600)
    assert found.node_hours.why == "job 2 still runs"
    assert found.queue_wait.value == 60
    for figure in (found.cpu_efficiency, found.peak_memory_bytes, found.total_memory_bytes,
                   found.gpus, found.gpu_hours):  # fmt: skip
        assert (figure.value, figure.why) == (None, "no accounting here")
    assert all(j.cpu_s.value is None for j in found.jobs)


def test_without_accounting_a_job_that_squeue_forgot_is_missing() -> None:
    jobs = [queued("1", JobState.COMPLETED, 100, 200)]
    found = measure_unaccounted(jobs, ["1", "9"], WHOLE, shared=False, why="no accounting here")
    assert found.missing == ("9",)
    assert not found.node_hours.is_exact
