"""A cluster from Python whose maker is cut off: what may be asked again makes nothing twice."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from slurm_provider.access import NodeAccess
from slurm_provider.agent.files import write_json
from slurm_provider.api import RayCluster
from slurm_provider.bootstrap import HEAD_START_COMMAND
from slurm_provider.cluster import Cluster
from slurm_provider.slurm import SlurmUnavailable
from slurm_provider.transport import LocalTransport, TransportError
from tests.slurm_provider.fake_slurm.programs import Bench, SlurmPrograms

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"
NO_CONTROLLER = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"


@pytest.fixture
def cluster(tmp_path: Path, slurm: SlurmPrograms, monkeypatch: pytest.MonkeyPatch) -> RayCluster:
    monkeypatch.setattr("slurm_provider.fleet.submitter.UNSURE_S", 0.0)
    monkeypatch.setattr("slurm_provider.fleet.admission.UNSURE_S", 0.5)
    config = {
        "cluster_name": "demo",
        "max_workers": 0,
        "provider": {
            "type": "external",
            "module": "slurm_provider.SlurmNodeProvider",
            "cluster_dir": str(tmp_path / "cluster"),
        },
        "head_node_type": "head",
        "head_start_ray_commands": [HEAD_START_COMMAND],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "available_node_types": {"head": {"node_config": {"mem": "1G"}, "max_workers": 0}},
    }
    return RayCluster(config, LocalTransport())


def living(slurm: SlurmPrograms) -> list[str]:
    return [job["name"] for job in slurm.jobs if job["state"] != "CANCELLED"]


@pytest.mark.parametrize("is_carried_out", [True, False])
def test_a_head_whose_submission_gave_no_answer_is_asked_for_again_and_there_is_one(
    cluster: RayCluster, slurm: SlurmPrograms, is_carried_out: bool
) -> None:
    slurm.answer("sbatch", stderr=TIMED_OUT, rc=1, done=is_carried_out, after=1)
    slurm.answer("squeue", stderr=NO_CONTROLLER, rc=1)
    with pytest.raises(SlurmUnavailable):
        cluster.request_head()
    for command in ("sbatch", "squeue"):
        slurm.tell_the_truth(command)

    with pytest.raises(SlurmUnavailable, match="is not known yet"):
        cluster.request_head()
    deadline = time.monotonic() + 20
    while True:
        try:
            node_id = cluster.request_head()
            break
        except SlurmUnavailable:
            assert time.monotonic() < deadline
    assert cluster.request_head() == node_id
    (name,) = living(slurm)
    assert node_id.partition("-")[0] in name


def test_an_order_to_start_ray_is_given_once_though_its_giver_is_cut_off(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster({"type": "external", "cluster_dir": bench.store.paths.root}, "demo")
    access = NodeAccess(cluster, "headlaunch-0")
    requests = Path(bench.store.paths.requests("headlaunch-0"))
    requests.mkdir(parents=True)
    real, cuts = access._answer, [TransportError("cut", transient=True)]

    def cut_once(path: str) -> object:
        if cuts:
            raise cuts.pop()
        return real(path)

    monkeypatch.setattr(access, "_answer", cut_once)
    commands = ["ray stop", "ray start --head"]
    assert access.still_to_start(commands) == commands
    with pytest.raises(TransportError, match="cut"):
        access.start_ray("ray start --head", {})
    assert access.still_to_start(commands) == ["ray start --head"]
    (order,) = requests.iterdir()
    again = threading.Thread(target=access.start_ray, args=("ray start --head", {}))
    again.start()
    answer = order.with_name(f"{order.name}.result")
    write_json(str(answer), {"exit_code": 0, "message": ""})
    again.join(20)
    assert not again.is_alive()
    assert sorted(requests.iterdir()) == [order, answer]
    assert access.still_to_start(commands) == commands
