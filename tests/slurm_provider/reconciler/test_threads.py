"""On the head several threads use one fleet."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from slurm_provider.slurm import JobState
from tests.slurm_provider.reconciler.head import HeadNode, node_of

RUN_S = 1.5


def test_nobody_waits_for_slurm_while_holding_the_lock(head: HeadNode) -> None:
    def is_free() -> bool:
        free: list[bool] = []
        lock = head.fleet._state.lock

        def try_it() -> None:
            if lock.acquire(blocking=False):
                lock.release()
                free.append(True)

        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        return bool(free)

    seen: list[bool] = []
    head.slurm.answer_submit = lambda _: seen.append(is_free())
    head.slurm.answer_queue = lambda: seen.append(is_free())
    head.slurm.answer_cancel = lambda: seen.append(is_free())
    head.demand(3)
    head.tick(5)
    head.demand(0)
    head.terminate(*[node_of(job) for job in head.slurm.workers()])
    assert len(seen) >= 3 and all(seen)


def test_ray_is_answered_while_slurm_is_asked(head: HeadNode) -> None:
    head.demand(2)
    head.tick(3)
    asked, answer = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        answer.wait(30)

    head.slurm.answer_queue = wait
    watcher = threading.Thread(target=head.look)
    watcher.start()
    try:
        assert asked.wait(30)
        assert len(head.listed) == 3
    finally:
        answer.set()
        watcher.join()


def test_whatever_they_do_at_once_every_job_is_a_node_and_no_node_has_two(
    make_head: Callable[..., HeadNode],
) -> None:
    head = make_head(max_pending=20)
    head.look()
    rng = random.Random(7)
    problems: list[BaseException] = []
    stop = time.monotonic() + RUN_S

    def again(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            while time.monotonic() < stop and not problems:
                try:
                    work()
                except BaseException as error:
                    problems.append(error)

        return run

    def launch() -> None:
        head.launch("cpu", rng.randint(1, 4))

    def end_some() -> None:
        workers = [i for i in head.listed if i != "headlaunch-0"]
        head.terminate(*rng.sample(workers, min(3, len(workers))))

    def slurm_goes_on() -> None:
        for job in head.slurm.workers(JobState.PENDING)[:2]:
            head.slurm.set_state(job.job_id, JobState.RUNNING)
        time.sleep(0.001)

    works = [launch, launch, end_some, head.look, slurm_goes_on]
    threads = [threading.Thread(target=again(work)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [] and head.surprises == []

    head.look()
    head.look()
    living = [node_of(job) for job in head.slurm.workers()]
    held = [node.node_id for node in head.fleet.nodes() if node.held is not None]
    assert len(set(living)) == len(living)
    assert head.listed == sorted(["headlaunch-0", *living, *held])
    assert len(head.slurm.submissions) > 20 and head.slurm.cancelled


def test_what_is_over_is_forgotten(head: HeadNode) -> None:
    head.look()
    for _ in range(20):
        head.launch("cpu", 3)
        head.look()
        head.terminate(*[i for i in head.listed if i != "headlaunch-0"])
        head.slurm.forget_finished()
        head.clock.now += 10
        head.look()
    for _ in range(5):
        head.tick(1, every_s=20)
        head.look()
    fleet = head.fleet
    assert list(fleet._state.ledger.nodes) == ["headlaunch-0"]
    assert fleet._submitter._launches == {} and fleet._postmortem._waiting == []
