from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from slurm_provider.agent.head import Head
from slurm_provider.agent.node import Node
from slurm_provider.agent.unfailing import Told
from slurm_provider.cluster_paths import ClusterPaths


def test_others_are_told_the_address_that_ray_was_started_with(tmp_path: Path) -> None:
    paths = ClusterPaths(str(tmp_path))
    folder = Path(paths.node("h-0"))
    folder.mkdir(parents=True)
    started = {"address": "head.ib", "port": "20007", "temp_dir": "/tmp/h", "client_port": "20008",
               "dashboard_host": "127.0.0.1", "dashboard_port": "20009"}  # fmt: skip
    (folder / "ray-started.json").write_text(json.dumps(started))
    told: dict[str, Any] = {}
    node = SimpleNamespace(
        paths=paths,
        told=Told(),
        spec=SimpleNamespace(node_id="h-0", values={}),
        plan=SimpleNamespace(address="10.0.0.1", allocation=SimpleNamespace(job_id="7", host="n1")),
        report=told.update,
        write_shell=lambda address: told.update(shell=address),
    )

    Head(cast(Node, node))._publish()

    head = json.loads(Path(paths.head).read_text())
    assert (head["ip"], head["gcs_address"]) == ("head.ib", "head.ib:20007")
    assert (told["address"], told["shell"]) == ("head.ib", "head.ib:20007")
