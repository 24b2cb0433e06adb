"""Finding or making a session's cluster: the real provider over Slurm's commands as programs."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_glue import ExecutionMode, RayLauncher, SlurmQueueConfig
from dagster_glue.cluster_config import ClusterPlan, cluster_config
from dagster_glue.clusters.choice import Wish
from dagster_glue.clusters.inventory import end_slurm_cluster
from dagster_glue.clusters.place import Place
from dagster_glue.clusters.session import _Held, _Session
from dagster_glue.clusters.shape import shape_of
from dagster_glue.clusters.waiting import QueueWait
from slurm_provider.api import RayCluster
from slurm_provider.slurm import SlurmRefused
from slurm_provider.transport import LocalTransport, TransportError
from tests.slurm_provider.fake_slurm.programs import SlurmPrograms

_PROCESSES = multiprocessing.get_context("spawn")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmPrograms:
    programs = SlurmPrograms(tmp_path)
    monkeypatch.setenv("PATH", f"{programs.bin}:{os.environ['PATH']}")
    return programs


def session(base: Path, *, cpus: int = 1, reuse: bool = False, step: str = "step") -> _Session:
    plan = ClusterPlan(
        "session",
        ExecutionMode.SLURM_SESSION,
        RayLauncher(num_cpus_per_node=cpus),
        SlurmQueueConfig(partition="compute"),
        "",
    )
    wish = Wish("session", shape_of(cluster_config(plan)), reuse, lease_key=step)
    place = Place(LocalTransport(), str(base))
    return _Session(place, wish, lambda words: None, "run", step, QueueWait(None))


@contextlib.contextmanager
def held(asked: _Session) -> Iterator[_Held]:
    while (found := asked._find_or_make()) is None:
        time.sleep(0.05)
    try:
        yield found
    finally:
        found.lease.give_back()


def heads(slurm: SlurmPrograms) -> list[dict[str, str]]:
    return [job for job in slurm.jobs if ":head:" in job["name"]]


def end_heads(slurm: SlurmPrograms, state: str) -> None:
    slurm.write_jobs([{**job, "state": state, "end": "2000"} for job in slurm.jobs])


def names(base: Path) -> list[str]:
    return sorted(path.name for path in (base / "clusters").iterdir())


def ask(base: Path, answers: Any) -> None:
    with held(session(base, step=f"step-{os.getpid()}")) as found:
        answers.put((found.name, found.is_ours))
        time.sleep(2.0)  # all of them hold it


def test_processes_that_ask_at_once_make_one_cluster(tmp_path: Path, slurm: SlurmPrograms) -> None:
    answers = _PROCESSES.Queue()
    processes = [_PROCESSES.Process(target=ask, args=(tmp_path, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert len({name for name, _ in found}) == 1
    assert [is_ours for _, is_ours in found].count(True) == 1
    assert len(heads(slurm)) == 1


def test_who_comes_later_takes_a_lease_on_the_same_one(
    tmp_path: Path, slurm: SlurmPrograms
) -> None:
    with held(session(tmp_path)) as first, held(session(tmp_path, step="other")) as second:
        assert (first.name, first.is_ours) == (second.name, True)
        assert not second.is_ours
        leases = tmp_path / "clusters" / first.name / "leases"
        assert len(list(leases.iterdir())) == 2
    assert list(leases.iterdir()) == []
    assert len(heads(slurm)) == 1


def test_a_larger_one_is_taken_with_reuse_only(tmp_path: Path, slurm: SlurmPrograms) -> None:
    with held(session(tmp_path, cpus=8)) as large:
        with held(session(tmp_path, cpus=4, reuse=True)) as found:
            assert found.name == large.name
        with held(session(tmp_path, cpus=4)) as found:
            assert found.name != large.name
    assert len(heads(slurm)) == 2


@pytest.mark.parametrize("state", ["TIMEOUT", "NODE_FAIL", "CANCELLED"])
def test_a_cluster_whose_head_died_is_made_anew_under_its_name(
    tmp_path: Path, slurm: SlurmPrograms, state: str
) -> None:
    with held(session(tmp_path)) as first:
        pass
    end_heads(slurm, state)
    with held(session(tmp_path)) as second:
        assert (second.name, second.is_ours) == (first.name, True)
    assert len({json.dumps(job["name"].split(":")[3]) for job in heads(slurm)}) == 2  # two uuids
    assert names(tmp_path) == [first.name]


def test_a_cluster_that_is_ending_keeps_its_name_until_it_is_gone(
    tmp_path: Path, slurm: SlurmPrograms
) -> None:
    with held(session(tmp_path)) as first:
        (tmp_path / "clusters" / first.name / "closing").touch()
    with held(session(tmp_path)) as second:
        assert second.name == f"{first.name}-2"
        assert second.is_ours
    assert (tmp_path / "clusters" / first.name / "cluster.json").exists()


def test_a_cluster_that_goes_between_finding_and_leasing_is_not_used(
    tmp_path: Path, slurm: SlurmPrograms
) -> None:
    with held(session(tmp_path)) as first:
        pass
    asked = session(tmp_path)
    (found,) = asked._place.look()
    (tmp_path / "clusters" / first.name / "closing").touch()
    assert asked._leased(found) is None
    asked._place.transport.remove_tree(f"{tmp_path}/clusters/{first.name}")
    assert asked._leased(found) is None
    assert names(tmp_path) == []


def test_who_lost_the_lock_leaves_the_next_holder_s_cluster_alone(
    tmp_path: Path, slurm: SlurmPrograms
) -> None:
    with held(session(tmp_path)) as first:
        assert session(tmp_path, step="late")._made(first.name, lambda: False) is None
        leases = tmp_path / "clusters" / first.name / "leases"
        assert len(list(leases.iterdir())) == 1
    assert [head["state"] for head in heads(slurm)] == ["PENDING"]


def test_a_connection_that_is_cut_while_leasing_leaves_no_lease(
    tmp_path: Path, slurm: SlurmPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(session(tmp_path)) as first:
        pass
    asked = session(tmp_path)
    (found,) = asked._place.look()

    def cut(path: str) -> list[str]:
        raise TransportError("cut", transient=True)

    monkeypatch.setattr(asked._place.transport, "list_dir", cut)
    with pytest.raises(TransportError, match="cut"):
        asked._leased(found)
    assert list((tmp_path / "clusters" / first.name / "leases").iterdir()) == []


def test_a_head_whose_submission_was_cut_off_is_found_by_the_next_look(
    tmp_path: Path, slurm: SlurmPrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = session(tmp_path)
    real, answers_lost = RayCluster.request_head, [True]

    def lose_the_answer(cluster: RayCluster) -> str:
        node_id = real(cluster)
        if answers_lost and answers_lost.pop():
            raise TransportError("cut", transient=True)
        return node_id

    monkeypatch.setattr(RayCluster, "request_head", lose_the_answer)
    monkeypatch.setattr(_Session, "_is_started", lambda self, held: True)
    name, lease = asked.obtain(lambda error: False)
    lease.give_back()
    assert names(tmp_path) == [name]
    assert [head["state"] for head in heads(slurm)] == ["PENDING"]


def test_logs_that_are_to_be_kept_outlive_their_cluster(
    tmp_path: Path, slurm: SlurmPrograms
) -> None:
    with held(session(tmp_path)) as first:
        pass
    log = tmp_path / "clusters" / first.name / "logs" / "head.log"
    log.write_text("words")
    end_slurm_cluster(
        Place(LocalTransport(), str(tmp_path), provider={"keep_logs": True}), first.name
    )
    assert log.read_text() == "words"
    assert [path.name for path in log.parent.parent.iterdir()] == ["logs"]


def test_a_head_that_the_queue_does_not_show_is_not_dead_while_it_gives_signs_of_life(
    tmp_path: Path, slurm: SlurmPrograms
) -> None:
    with held(session(tmp_path)) as first:
        pass
    root = tmp_path / "clusters" / first.name
    report = root / "nodes" / "abc-0" / "node.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("{}")
    (root / "head.json").write_text('{"node_id": "abc-0"}')
    made = time.time() - 100
    os.utime(root / "cluster.json", (made, made))
    slurm.write_jobs([])
    assert session(tmp_path)._find_or_make() is None
    os.utime(report, (made, made))
    with held(session(tmp_path)) as second:
        assert (second.name, second.is_ours) == (first.name, True)


def test_of_a_refused_head_nothing_stays(tmp_path: Path, slurm: SlurmPrograms) -> None:
    asked = session(tmp_path)
    cluster = RayCluster(asked._config("x"), LocalTransport())
    tests = len(cluster._config["available_node_types"])  # of each type, before the head's sbatch
    answers = slurm.bin.parent / "state" / "answers" / "sbatch.json"
    slurm.answer("sbatch", rc=1, stderr="sbatch: error: Invalid account")
    (refusal,) = json.loads(answers.read_text())
    answers.write_text(json.dumps([None] * tests + [refusal]))
    with pytest.raises(SlurmRefused, match="Invalid account"):
        asked._find_or_make()
    assert names(tmp_path) == []
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_head_that_nobody_waits_for_any_more_is_withdrawn(
    tmp_path: Path, slurm: SlurmPrograms
) -> None:
    with held(session(tmp_path)) as first, held(session(tmp_path, step="other")) as second:
        session(tmp_path)._give_up(first)
        assert heads(slurm)[0]["state"] == "PENDING"  # the other one still waits
        session(tmp_path)._give_up(second)
    assert heads(slurm)[0]["state"] == "CANCELLED"
    assert names(tmp_path) == []
