"""The quick start, as examples/quickstart.sh runs it for an ordinary user."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.cluster import Cluster
from tests.sandbox_fixture import ROOT, RunningSandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.alone]

FILES = ("tour.sh", "sweep.py", "watch.py", "timeline.py")
MOMENTS = ("demand: 10 trials of 1 CPU, no worker", "first job submitted", "first job running",
           "first node joined Ray", "first task running")  # fmt: skip


@pytest.fixture
def demo(sandbox: RunningSandbox) -> Iterator[Cluster]:
    """The configuration of the quick start under a name of its own, with less patience."""
    content = yaml.safe_load((ROOT / "cluster-configs" / "sandbox.yaml").read_text())
    del content["cluster_name"]
    cluster = Cluster(sandbox, "demo", {**content, "idle_timeout_minutes": 0.1})
    try:
        for name in FILES:
            shutil.copy(ROOT / "examples" / "quickstart" / name, cluster.folder)
        yield cluster
    finally:
        cluster.remove()


def test_a_sweep_grows_the_cluster_to_three_hosts_and_leaves_nothing(demo: Cluster) -> None:
    done = demo.run("./tour.sh", demo.yaml.name, timeout_s=240)

    rows = re.findall(r"^ +\d\.\d{4} +[\d.]+ +\d\.\d\de-\d\d +(n\d)$", done.output, re.M)
    assert len(rows) == 10, done.output
    lines = done.output.splitlines()
    shown = [[line for line in lines if line.endswith(f" s  {moment}")] for moment in MOMENTS]
    assert [len(found) for found in shown] == [1] * len(MOMENTS), done.output
    times = [float(found[0].split()[0]) for found in shown]
    assert times[0] == 0.0 and times[-1] == max(times) > 0.0
    assert re.search(r"^\d workers on 3 hosts \(n\d, n\d, n\d\)$", done.output, re.M), done.output
    assert "JOBID" in "".join(lines[lines.index("$ squeue --me") :])
    assert list(demo.folder.glob("*.json")) == []
    demo.assert_nothing_is_left()
