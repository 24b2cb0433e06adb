"""The floor: Ray on Slurm by bare srun, sbatch and scancel, as a person would type them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.sandbox_user import ROOT, SandboxUser, read_stamp, stamped
from benchmarks.waiting import answers, wait_for

START_TIMEOUT_S = 180.0
_STARTED = "Ray runtime started."
_HEAD = ("--partition=compute", "--time=01:00:00", "--ntasks=1", "--cpus-per-task=1", "--mem=2G")
_WORKER = ("--partition=compute", "--time=01:00:00", "--ntasks=1", "--cpus-per-task=2", "--mem=2G")


class BareRay:
    """One cluster by hand. Use ``bare_ray``, which removes it."""

    def __init__(self, user: SandboxUser, folder: Path) -> None:
        self._user = user
        self._folder = folder
        self._name = f"bare-{secrets.token_hex(3)}"
        self.temp_dir = f"/tmp/{self._name}"
        # Below Linux's own ports and outside of what slurm_provider uses by default.
        self._port = 12000 + 20 * secrets.randbelow(350)
        self.host = ""

    @property
    def address(self) -> str:
        return f"{self._user.hosts[self.host]}:{self._port}"

    @property
    def environment(self) -> str:
        """Shell line for a driver on the head."""
        return f"export RAY_ADDRESS={self.address}"

    def owns(self, job_name: str) -> bool:
        return job_name.startswith(self._name)

    @contextmanager
    def head_by_srun(self) -> Iterator[dict[str, float]]:
        """A head that lives with the block; moments in seconds since srun's start."""
        output = self._folder / "head.out"
        stamp = self._folder / "srun.started"
        command = ["srun", f"--job-name={self._name}", *_HEAD, *self._head_command()]
        with (
            output.open("w") as out,
            self._user.started(*stamped(stamp, command), stdout=out),
        ):
            start = read_stamp(stamp)
            moments = self._wait_for_gcs(start)
            wait_for(
                "bare `ray start --head`", lambda: _STARTED in output.read_text(), START_TIMEOUT_S
            )
            moments["complete"] = time.time() - start
            yield moments

    def head_by_sbatch(self) -> None:
        """A head that lives until it is cancelled; returns when its dashboard answers."""
        self._user.run(
            "sbatch", f"--job-name={self._name}", f"--output={self._folder}/head.out", *_HEAD,
            *self._head_command(),
        )  # fmt: skip
        self._wait_for_gcs(time.time())
        wait_for("bare head", lambda: _STARTED in self.log("head.out"), START_TIMEOUT_S)
        wait_for("bare head's dashboard", self._dashboard_is_up, START_TIMEOUT_S)

    def submit_workers(self, count: int) -> float:
        """One sbatch for so many workers; its start."""
        for stale in self._folder.glob("*.started"):
            stale.unlink()
        stamp = self._folder / "sbatch.started"
        array = [] if count == 1 else [f"--array=0-{count - 1}"]
        command = [
            "sbatch", f"--job-name={self._name}-worker", f"--output={self._folder}/worker-%a.out",
            *array, *_WORKER, str(ROOT / "benchmarks" / "bare_worker.sh"), str(self._folder),
            self.address, str(self._port + 10), self.temp_dir,
        ]  # fmt: skip
        self._user.run(*stamped(stamp, command))
        return read_stamp(stamp)

    def worker_moments(self, since: float) -> dict[str, float]:
        """When the last worker's script ran."""
        scripts = [read_stamp(path) for path in self._folder.glob("worker-*.started")]
        return {"job runs": max(scripts) - since} if scripts else {}

    def cancel_workers(self) -> None:
        self._user.cancel(lambda name: name == f"{self._name}-worker")

    def scancel(self) -> float:
        """One scancel of everything by the user, as a person would; its start."""
        ids = {job.job_id for job in self._user.jobs(self.owns)}
        stamp = self._folder / "scancel.started"
        self._user.run(*stamped(stamp, ["scancel", *ids]))
        return read_stamp(stamp)

    def log(self, name: str) -> str:
        path = self._folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def _head_command(self) -> list[str]:
        script = ROOT / "benchmarks" / "bare_head.sh"
        return [str(script), str(self._folder), str(self._port), self.temp_dir]

    def _wait_for_gcs(self, since: float) -> dict[str, float]:
        started = self._folder / "head.started"
        job_runs = read_stamp(started, START_TIMEOUT_S)
        self.host = started.read_text().split()[1]
        address = self._user.hosts[self.host]
        wait_for("bare head's GCS", lambda: answers(address, self._port), START_TIMEOUT_S)
        return {"job runs": job_runs - since, "GCS answers": time.time() - since}

    def _dashboard_is_up(self) -> bool:
        url = f"http://127.0.0.1:{self._port + 1}/api/version"
        done = self._user.run(
            "curl", "-s", "-o", "/dev/null", "-m", "2", url, host=self.host, check=False
        )
        return done.returncode == 0


@contextmanager
def bare_ray(user: SandboxUser) -> Iterator[BareRay]:
    """A cluster by hand; its jobs and files are gone after the block."""
    with user.folder() as folder:
        ray = BareRay(user, folder)
        try:
            yield ray
        finally:
            user.cancel(ray.owns)
            user.remove_on_hosts(ray.temp_dir)
