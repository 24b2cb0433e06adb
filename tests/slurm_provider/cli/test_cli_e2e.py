"""``ray-slurm`` as an ordinary user calls it on a real Slurm."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

USER = "user2"
EXAMPLE = ROOT / "cluster-configs" / "site.yaml"


class Shell:
    """A folder of the user's, and ``ray-slurm`` in it."""

    def __init__(self, sandbox: RunningSandbox) -> None:
        self.sandbox = sandbox
        self.name = f"cli-{uuid.uuid4().hex[:6]}"
        self.home = sandbox.info["users"][USER]["home"]
        self.folder = f"{self.home}/{self.name}"

    def sh(self, line: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.sandbox.run(
            "bash", "-c", f"cd {self.folder} && {line}", user=USER, check=check, timeout_s=120
        )

    def ray_slurm(self, arguments: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.sh(f"python3 -m slurm_provider.cli {arguments}", check=check)

    def submitted(self, job_id: str) -> list[str]:
        """The words of the sbatch that made a job, as Slurm noted them."""
        # The accounting database learns of a job a little later.
        line = wait_for(lambda: self.sh(f"sacct -X -n -P -j {job_id} -o SubmitLine").stdout)
        return _options(line)

    def shown(self, node_type: str, node_id: str) -> list[str]:
        """The same as `script` shows it."""
        line = self.ray_slurm(f"script slurm.yaml {node_type}").stdout.splitlines()[1]
        launch = node_id.rpartition("-")[0]
        return _options(line.partition(" sbatch ")[2].replace("LAUNCH", launch))

    def jobs(self) -> list[str]:
        listed = self.sh("squeue --me --noheader --format '%T %j'").stdout.splitlines()
        return [line for line in listed if self.name in line or "ray-slurm-check" in line]


def _options(line: str) -> list[str]:
    return sorted(word for word in line.split() if word.startswith("--"))


@pytest.fixture(scope="module")
def shell(sandbox: RunningSandbox) -> Iterator[Shell]:
    """With a YAML that ``init`` wrote; everything is gone afterwards."""
    shell = Shell(sandbox)
    sandbox.run("mkdir", shell.folder, user=USER)
    try:
        shell.ray_slurm(f"init --cluster-name {shell.name}")
        yield shell
    finally:
        shell.sh("ray down -y slurm.yaml", check=False)
        shell.sh(f"rm -rf {shell.folder} ~/.ray-slurm/{shell.name}*")


def test_check_passes_on_a_good_site_and_leaves_nothing(shell: Shell) -> None:
    done = shell.ray_slurm("check slurm.yaml --timeout 60")
    for what in ("shared folder", "environment", "temporary folder", "submitting from nodes",
                 "commands on nodes", "ports between nodes"):  # fmt: skip
        assert f"ok       {what}: " in done.stdout
    assert shell.jobs() == []
    assert shell.name not in shell.sh("ls -A ~/.ray-slurm").stdout


def test_the_example_of_a_site_needs_its_partition_changed_and_nothing_else(shell: Shell) -> None:
    shell.sh(f"sed 's/partition: compute/partition: long/' {EXAMPLE} > site.yaml")
    done = shell.ray_slurm("check site.yaml --no-job")
    for node_type in ("head", "cpu", "gpu"):
        assert f"ok       node type {node_type}: accepted by Slurm" in done.stdout


def test_check_names_a_broken_environment_with_the_jobs_own_words(shell: Shell) -> None:
    shell.sh("sed 's#prefix: .*#activate: source /no/such/file#' slurm.yaml > broken.yaml")
    done = shell.ray_slurm("check broken.yaml --timeout 60", check=False)
    assert done.returncode == 1
    assert "problem  environment: " in done.stdout
    assert "/no/such/file" in done.stdout
    assert shell.jobs() == []


def test_check_names_a_folder_that_hosts_do_not_share(shell: Shell) -> None:
    shell.sh(
        f"sed 's#environment:#cluster_dir: /tmp/{shell.name}/c\\n    environment:#' slurm.yaml "
        "> unshared.yaml"
    )
    try:
        done = shell.ray_slurm("check unshared.yaml --timeout 60", check=False)
    finally:
        shell.sh(f"rm -rf /tmp/{shell.name}")
    assert done.returncode == 1
    assert "problem  shared folder: " in done.stdout


def test_the_written_yaml_makes_a_cluster_that_status_and_logs_know(shell: Shell) -> None:
    shell.sh("ray up -y slurm.yaml")
    try:
        shown = json.loads(shell.ray_slurm("status slurm.yaml --json").stdout)
        (head,) = shown["nodes"]
        assert (head["kind"], head["state"]) == ("head", "joined")
        assert shown["head"]["host"] == head["host"]
        by_host = shell.ray_slurm(f"logs slurm.yaml {head['host']}").stdout
        assert "Ray runtime started" in by_host
        assert shell.ray_slurm("logs slurm.yaml").stdout == by_host
        assert shell.submitted(head["job_id"]) == shell.shown("head", head["node_id"])
        assert "No orphaned jobs" in shell.ray_slurm("sweep slurm.yaml").stdout
    finally:
        shell.sh("ray down -y slurm.yaml")
    done = shell.ray_slurm("status slurm.yaml", check=False)
    assert done.returncode == 1
    assert "there is no cluster" in done.stderr


def test_sweep_cancels_a_job_of_a_cluster_that_is_gone(shell: Shell) -> None:
    shell.sh(
        f"sbatch --hold --output=/dev/null -J ray:{shell.name}:cpu:gone:worker:x-0 --wrap true"
    )
    assert len(shell.jobs()) == 1
    assert "Cancelled 1 job." in shell.ray_slurm("sweep slurm.yaml --yes").stdout
    wait_for(lambda: not shell.jobs(), timeout_s=20)
