"""The same cluster by `ray up` with slurm_provider, watched from outside."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import BenchmarkError
from benchmarks.sandbox_user import ROOT, SandboxUser, read_stamp, stamped
from benchmarks.waiting import answers, wait_for

START_TIMEOUT_S = 180.0
_CONFIG = ROOT / "cluster-configs" / "sandbox.yaml"


class OurRay:
    """One cluster of the provider. Use ``our_ray``, which removes it."""

    def __init__(self, user: SandboxUser, folder: Path, changes: Mapping[str, Any]) -> None:
        self._user = user
        self._folder = folder
        self.name = f"bench-{secrets.token_hex(3)}"
        self.dir = user.home / ".ray-slurm" / self.name
        config = yaml.safe_load(_CONFIG.read_text())
        # Workers between two repeats are ended by us, not by Ray's idle time-out.
        config.update(cluster_name=self.name, idle_timeout_minutes=10)
        _merge(config, changes)
        self._config = user.give(folder / "cluster.yaml", yaml.safe_dump(config))

    @property
    def host(self) -> str:
        return str(self._head()["host"])

    @property
    def environment(self) -> str:
        """Shell line for a driver on the head."""
        return f". {self.dir}/nodes/{self._head()['node_id']}/shell.sh"

    def owns(self, job_name: str) -> bool:
        return job_name.startswith(f"ray:{self.name}:")

    def up(self) -> dict[str, float]:
        """`ray up`; moments in seconds since its start."""
        stamp = self._folder / "up.started"
        output = self._folder / "up.out"
        with (
            output.open("w") as out,
            self._user.started(*stamped(stamp, self._ray("up", "-y")), stdout=out) as child,
        ):
            start = read_stamp(stamp)
            wait_for("our head's GCS", lambda: self._gcs_answers(child, output), START_TIMEOUT_S)
            gcs = time.time()
            child.wait(START_TIMEOUT_S)
            complete = time.time()
        _check(child, output)
        report = self._reports()[0]
        node = self.dir / "nodes" / str(report["node_id"])
        launched = min(path.stat().st_mtime for path in (self.dir / "launches").glob("*.json"))
        moments = {
            "provider submits": launched,
            "agent runs": float(report["agent_started"]),
            "`ray start` runs": (node / "ray-started.json").stat().st_mtime,
            "GCS answers": gcs,
            "`ray start` done": float(json.loads((node / "node.json").read_text())["joined"]),
            "complete": complete,
        }
        return {name: moment - start for name, moment in moments.items()}

    def wait_for_dashboard(self) -> None:
        wait_for("our head's dashboard", self._dashboard_is_up, START_TIMEOUT_S)

    def worker_moments(self, since: float) -> dict[str, float]:
        """When the last of the workers launched since then came to be what."""
        launches = [
            path.stat().st_mtime
            for path in (self.dir / "launches").glob("*.json")
            if path.stat().st_mtime >= since
        ]
        reports = [report for report in self._reports() if report["agent_started"] >= since]
        moments = {"provider submits": max(launches, default=0.0)}
        moments["agent runs"] = max((r["agent_started"] for r in reports), default=0.0)
        moments["`ray start` done"] = max((r.get("joined", 0.0) for r in reports), default=0.0)
        return {name: moment - since for name, moment in moments.items() if moment}

    def cancel_workers(self) -> None:
        self._user.cancel(lambda name: self.owns(name) and ":worker:" in name)

    @contextmanager
    def down(self) -> Iterator[tuple[float, subprocess.Popen[str]]]:
        """`ray down` while it runs: its start and its process."""
        stamp = self._folder / "down.started"
        with self._user.started(*stamped(stamp, self._ray("down", "-y"))) as child:
            yield read_stamp(stamp), child

    def remove(self) -> None:
        """Whatever is left of the cluster; needs nothing to work but Slurm."""
        # First the tombstone: a living autoscaler must not launch again.
        if self.dir.is_dir():
            self._user.give(self.dir / "closing", "")
        self._user.cancel(self.owns)
        shutil.rmtree(self.dir, ignore_errors=True)

    def _ray(self, command: str, *options: str) -> list[str]:
        # Ray keeps the resolved configuration in TMPDIR.
        return ["env", f"TMPDIR={self._folder}", "ray", command, *options, str(self._config)]

    def _head(self) -> dict[str, Any]:
        return dict(json.loads((self.dir / "head.json").read_text()))

    def _gcs_answers(self, child: subprocess.Popen[str], output: Path) -> bool:
        """Whether the head's GCS does, found as soon as its agent has written where it is to be."""
        if child.poll() is not None:
            _check(child, output)
        for path in self.dir.glob("nodes/*/ray-started.json"):
            report = json.loads((path.parent / "node.json").read_text())
            return answers(report["address"], int(json.loads(path.read_text())["port"]))
        return False

    def _reports(self) -> list[dict[str, Any]]:
        paths = self.dir.glob("nodes/*/node.json")
        return [json.loads(path.read_text()) for path in paths]

    def _dashboard_is_up(self) -> bool:
        url = f"http://127.0.0.1:{self._head()['dashboard_port']}/api/version"
        done = self._user.run(
            "curl", "-s", "-o", "/dev/null", "-m", "2", url, host=self.host, check=False
        )
        return done.returncode == 0


def _check(child: subprocess.Popen[str], output: Path) -> None:
    if child.returncode != 0:
        raise BenchmarkError(
            f"`ray up` ended with exit code {child.returncode}: {output.read_text()[-3000:]}"
        )


def _merge(config: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping):
            _merge(config[key], value)
        else:
            config[key] = value


@contextmanager
def our_ray(user: SandboxUser, changes: Mapping[str, Any] | None = None) -> Iterator[OurRay]:
    """A cluster of the provider; nothing of it is left after the block.

    ``changes`` are merged into the YAML, whose mappings exist.
    """
    with user.folder() as folder:
        ray = OurRay(user, folder, changes or {})
        try:
            yield ray
        finally:
            ray.remove()
