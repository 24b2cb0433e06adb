"""A cluster whose folder, variables, mounts and options are full of signs that shells, YAML and
Slurm's patterns know: everything arrives as it was written, and nothing of it runs."""

from __future__ import annotations

import pytest

from tests.e2e.cluster import config, node_type
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.sandbox

ODD = """it's 50% %j %a $(touch /tmp/e2e-ran) `touch /tmp/e2e-ran` "q" ; & | * ü"""
LINES = f"{ODD}\n\tsecond\\line $HOME ${{HOME}}"


def test_odd_texts_arrive_as_written_everywhere(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(
        "odd",
        config(
            {"cpu": node_type(max_workers=1, min_workers=1, node_config={"network": ODD})},
            env={"ODD": LINES},
            start_together=True,  # the worker's log is srun's, the head's is sbatch's
        ),
    )
    cluster.dir = cluster.folder / ODD.replace("/", "-") / "x"
    (cluster.folder / "data").mkdir()
    (cluster.folder / "data" / "a b").write_text("mounted")
    target = f"/tmp/{cluster.name}/{ODD.replace('/', '-')}"
    cluster.content["provider"]["cluster_dir"] = str(cluster.dir)
    cluster.content["provider"]["defaults"]["network"] = ODD
    cluster.content["file_mounts"] = {target: str(cluster.folder / "data")}
    cluster.write()

    cluster.up()

    (worker,) = cluster.wait_for_workers(1)
    there = cluster.ask(
        f"""
        @ray.remote
        def look():
            return os.environ["ODD"], open({target!r} + "/a b").read()
        result = [os.environ["ODD"], open({target!r} + "/a b").read(), *ray.get(look.remote())]
        """
    )
    assert there == [LINES, "mounted", LINES, "mounted"]
    for node_id in (cluster.head()["node_id"], worker["node_id"]):
        assert "Ray runtime started" in cluster.agent_log(node_id)
        shown = cluster.sandbox.run("scontrol", "show", "job", cluster.job_of(node_id)).stdout
        assert f"Network={ODD}\n" in shown
    for host in [None, *cluster.sandbox.info["hosts"]]:
        done = cluster.sandbox.run("ls", "/tmp/e2e-ran", user=None, host=host, check=False)
        assert done.returncode != 0
    cluster.exec(f"rm -r /tmp/{cluster.name}")
