from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dagster_glue.clusters import per_asset
from dagster_glue.clusters.per_asset import cluster_for_asset, cluster_is_there, cluster_name
from slurm_provider.api import Head
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.identity import name_error
from slurm_provider.slurm import SlurmRefused, SlurmUnavailable
from slurm_provider.transport import LocalTransport, Transport, TransportError

HEAD = Head("abc-0", "17", "n1", "10.0.0.1:6379", 8265, "g")


class FakeCluster:
    """What the life of a cluster calls; remembers it."""

    made: list[FakeCluster]
    directory: str
    words: tuple[str, ...] = ("job 17 waits", "job 17 waits", "job 17 is running")
    never_starts = False
    cannot_go = False

    outages: tuple[Exception, ...] = ()

    def __init__(self, config: Mapping[str, Any], transport: Transport) -> None:
        self.name = config["cluster_name"]
        self.transport = transport
        self.downs = 0
        self.to_come = list(self.outages)
        self.made.append(self)

    def request_head(self) -> str:
        return HEAD.node_id

    def await_host(
        self, node_id: str, show: Callable[[str], None], is_wanted: Callable[[], bool]
    ) -> None:
        assert node_id == HEAD.node_id
        if self.to_come:
            raise self.to_come.pop(0)
        while self.never_starts:
            if not is_wanted():
                raise ClusterError("no longer waiting")
        for words in self.words:
            show(words)

    def start_ray(self, node_id: str) -> Head:
        return HEAD

    def down(self) -> None:
        self.downs += 1
        if self.cannot_go:
            raise ClusterError("Slurm still lists jobs")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[FakeCluster]:
    class Fake(FakeCluster):
        made: list[FakeCluster] = []  # noqa: RUF012 -- one list for each test
        directory = str(tmp_path)

    monkeypatch.setattr(per_asset, "RayCluster", Fake)
    return Fake


def run(
    logged: list[str],
    body: Callable[[], None] = lambda: None,
    queue_timeout_s: float | None = None,
    leave_running: Callable[[BaseException], bool] = lambda error: False,
) -> None:
    with cluster_for_asset(
        {"cluster_name": "a"}, LocalTransport(), "/w", logged.append,
        run_id="run", step_key="step", queue_timeout_s=queue_timeout_s, leave_running=leave_running,
    ):  # fmt: skip
        body()


def interrupted() -> None:
    raise KeyboardInterrupt


def test_the_cluster_is_gone_afterwards_and_each_state_was_said_once(
    fake: type[FakeCluster],
) -> None:
    logged: list[str] = []
    run(logged)
    assert [cluster.downs for cluster in fake.made] == [1]
    assert logged == [
        "job 17 waits",
        "job 17 is running",
        "Cluster a: Ray runs on n1 (Slurm job 17)",
    ]


def test_the_cluster_is_gone_after_a_failure(fake: type[FakeCluster]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run([], interrupted)
    assert fake.made[0].downs == 1


def test_the_cluster_stays_when_only_this_process_ends(fake: type[FakeCluster]) -> None:
    with pytest.raises(KeyboardInterrupt):
        run([], interrupted, leave_running=lambda error: True)
    assert fake.made[0].downs == 0


def test_the_cluster_stays_for_the_step_that_is_tried_again(fake: type[FakeCluster]) -> None:
    run([], leave_running=lambda error: error is None)
    assert fake.made[0].downs == 0


def test_a_cluster_is_there_until_somebody_begins_to_take_it_down(tmp_path: Path) -> None:
    transport, folder = LocalTransport(), tmp_path / "c"
    assert not cluster_is_there(transport, str(folder))
    folder.mkdir()
    assert not cluster_is_there(transport, str(folder))  # a lease alone
    (folder / "cluster.json").touch()
    assert cluster_is_there(transport, str(folder))
    (folder / "closing").touch()
    assert not cluster_is_there(transport, str(folder))


def test_a_cluster_that_does_not_go_is_said_and_the_result_stands(fake: type[FakeCluster]) -> None:
    fake.cannot_go = True
    logged: list[str] = []
    run(logged)
    assert "Slurm still lists jobs" in logged[-1]
    assert "cleanup_cluster('a')" in logged[-1]


def test_a_folder_that_cannot_be_removed_is_said_and_the_result_stands(
    fake: type[FakeCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(self: FakeCluster) -> None:
        raise OSError("Directory not empty")

    monkeypatch.setattr(fake, "down", down)
    logged: list[str] = []
    run(logged)
    assert "Directory not empty" in logged[-1]


def test_of_a_head_that_is_refused_no_folder_stays(
    fake: type[FakeCluster], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(self: FakeCluster) -> str:
        assert len(list((tmp_path / "clusters" / "a" / "leases").iterdir())) == 1
        raise SlurmRefused("Invalid account")

    fake.directory = str(tmp_path / "clusters" / "a")
    monkeypatch.setattr(fake, "request_head", refuse)
    with pytest.raises(SlurmRefused, match="Invalid account"):
        run([])
    assert list((tmp_path / "clusters").iterdir()) == []


def test_a_cluster_that_is_ending_goes_before_it_is_made_anew(
    fake: type[FakeCluster], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = [tmp_path / "closing", tmp_path / "cluster.json"]
    for path in names:
        path.touch()

    def down(self: FakeCluster) -> None:
        self.downs += 1
        for path in names:
            path.unlink(missing_ok=True)

    monkeypatch.setattr(fake, "down", down)
    run([])
    assert fake.made[0].downs == 2


def test_a_cluster_that_does_not_start_in_time_is_withdrawn(fake: type[FakeCluster]) -> None:
    fake.never_starts = True
    with pytest.raises(ClusterError, match=r"within queue_timeout \(0.05 s\)"):
        run([], queue_timeout_s=0.05)
    assert fake.made[0].downs == 1


def test_a_slurm_that_is_away_while_the_head_waits_ends_nothing(
    fake: type[FakeCluster],
) -> None:
    fake.outages = (SlurmUnavailable("no answer"), TransportError("cut", transient=True))
    logged: list[str] = []
    run(logged)
    assert logged[-1] == "Cluster a: Ray runs on n1 (Slurm job 17)"


@pytest.mark.parametrize("step", ["request_head", "start_ray", "list_dir", "write_file"])
def test_an_outage_at_any_step_of_the_making_ends_nothing(
    fake: type[FakeCluster], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    owner = fake if hasattr(fake, step) else LocalTransport
    real, cuts = getattr(owner, step), [SlurmUnavailable("no answer") for _ in range(2)]

    def cut_twice(*arguments: Any, **named: Any) -> Any:
        if cuts:
            raise cuts.pop()
        return real(*arguments, **named)

    monkeypatch.setattr(owner, step, cut_twice)
    logged: list[str] = []
    run(logged)
    assert cuts == []
    assert logged[-1] == "Cluster a: Ray runs on n1 (Slurm job 17)"
    assert [cluster.downs for cluster in fake.made] == [1]


def test_a_slurm_that_stays_away_is_waited_for_no_longer_than_the_queue(
    fake: type[FakeCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: FakeCluster) -> str:
        raise SlurmUnavailable("no answer")

    monkeypatch.setattr(fake, "request_head", cut)
    with pytest.raises(ClusterError, match=r"within queue_timeout \(0.05 s\)"):
        run([], queue_timeout_s=0.05)


def test_what_will_not_pass_is_raised(fake: type[FakeCluster]) -> None:
    fake.outages = (TransportError("the host key has changed"),)
    with pytest.raises(TransportError, match="has changed"):
        run([])
    assert fake.made[0].downs == 1


def test_a_step_s_cluster_has_the_same_usable_name_in_every_attempt() -> None:
    names = {cluster_name("run-1", step) for step in ("train", "train[a]", "train[b]", "[]", "é")}
    assert len(names) == 5
    assert all(name_error(name) is None for name in names)
    assert cluster_name("run-1", "train") == cluster_name("run-1", "train")
    assert cluster_name("run-2", "train") != cluster_name("run-1", "train")
