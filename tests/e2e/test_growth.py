"""Demand grows a cluster from nothing to three hosts and it shrinks back."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import Cluster
from tests.sandbox_fixture import wait_for

pytestmark = [pytest.mark.sandbox, pytest.mark.alone]


def test_demand_becomes_one_array_job_on_three_hosts_and_ends_when_idle(cluster: Cluster) -> None:
    wait_for(lambda: cluster.jobs("cpu") == {}, 30)  # another test's may be about to leave

    with cluster.asking(_SWEEP) as sweep:
        jobs = wait_for(lambda: len(j := cluster.jobs("cpu")) == 4 and j, 30)
        output, _ = sweep.communicate(timeout=60)

    arrays = {job.partition("_")[0] for job in jobs}
    assert len(arrays) == 1, jobs
    assert {job.partition("_")[2] for job in jobs} == {"0", "1", "2", "3"}
    assert 'RESULT {"hosts": ["n1", "n2", "n3"], "nodes": 4}' in output
    wait_for(lambda: cluster.jobs("cpu") == {}, 30)
    assert cluster.jobs("head") and cluster.jobs("steady")


_SWEEP = """
@ray.remote(num_cpus=2)
class Trial:
    def run(self):
        import socket
        return socket.gethostname(), os.environ["RAY_CLOUD_INSTANCE_ID"]
trials = [Trial.remote() for _ in range(4)]
places = ray.get([trial.run.remote() for trial in trials])
result = {"hosts": sorted({host for host, _ in places}), "nodes": len({n for _, n in places})}
"""
