"""The quick start's own programs, with a `ray-slurm` that tells a story."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"


def node(node_id: str, host: str, joined_time: float | None) -> dict[str, Any]:
    state = "running" if joined_time is None else "joined"
    return {
        **{"node_id": node_id, "kind": "worker", "state": state, "host": host},
        **{"submit_time": 100.0, "start_time": 101.0, "joined_time": joined_time},
    }


def run(folder: Path, program: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(QUICKSTART / program), *argv],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_workers_that_are_replaced_before_the_sweep_is_over_are_no_end(tmp_path: Path) -> None:
    # Each look at the cluster sees the next of these; nothing is an answer that did not come.
    story = [[], [node("a", "n1", None)], [], [node("b", "n2", 108.0)], None, []]
    for number, nodes in enumerate(story, 1):
        if nodes is not None:
            (tmp_path / f"{number}.json").write_text(json.dumps({"nodes": nodes}))
    fake = tmp_path / "bin" / "ray-slurm"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\n"
        "echo >> looks\n"
        "number=$(wc -l < looks)\n"
        '[ "$number" -lt 4 ] || echo \'{"demand": 100.0, "first_task": 110.0}\' > times.json\n'
        'exec cat "$number.json"\n'
    )
    fake.chmod(0o755)

    watched = run(tmp_path, "watch.py", "sandbox.yaml", "times.json", "growth.json")
    assert [line.split("  ")[-1] for line in watched.stdout.splitlines()] == [
        "workers: none",
        "workers: 1 running on n1",
        "workers: none",
        "workers: 1 joined on n2",
        "workers: none",
    ], watched.stderr
    timeline = run(tmp_path, "timeline.py", "times.json", "growth.json")
    assert timeline.stdout.splitlines()[-3:] == [
        "    8.0 s  first node joined Ray",
        "   10.0 s  first task running",
        "1 workers on 1 hosts (n2)",
    ], timeline.stderr
