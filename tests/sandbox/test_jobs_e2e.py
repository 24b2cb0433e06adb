"""What an ordinary user gets from Slurm in the sandbox."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.sandbox.left_behind import left_behind
from tests.sandbox_fixture import RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox


@pytest.fixture
def folder(sandbox: RunningSandbox) -> str:
    """A new folder of user1 on the shared file system."""
    path = f"{sandbox.info['users']['user1']['home']}/test-{uuid.uuid4().hex[:8]}"
    sandbox.run("mkdir", path)
    return path


def test_every_host_has_its_own_name_and_address(sandbox: RunningSandbox) -> None:
    hosts = sandbox.info["hosts"]
    step = "echo $(hostname) $(ip -4 -oneline addr show eth0 | tr / ' ' | cut -d' ' -f7)"
    printed = sandbox.run("srun", f"-N{len(hosts)}", "sh", "-c", step).stdout
    assert dict(line.split() for line in printed.splitlines()) == hosts


def test_homes_are_shared_and_tmp_and_shm_are_not(sandbox: RunningSandbox, folder: str) -> None:
    name = Path(folder).name
    for place in (folder, "/tmp", "/dev/shm"):
        sandbox.run("srun", "-w", "n1", "touch", f"{place}/{name}.x")
    listing = ("sh", "-c", f"ls -d {folder}/*.x /tmp/{name}* /dev/shm/{name}* 2>/dev/null || true")
    assert len(sandbox.run("srun", "-w", "n1", *listing).stdout.split()) == 3
    for host in ("n2", None):
        assert sandbox.run(*listing, host=host).stdout.split() == [f"{folder}/{name}.x"]


def test_a_job_may_submit_list_and_cancel_jobs(sandbox: RunningSandbox, folder: str) -> None:
    script = (
        "set -e; id=$(sbatch --parsable --hold --output=/dev/null --wrap true); "
        "squeue --noheader --job $id --format %T; scancel $id; "
        "squeue --noheader --job $id --format %T"
    )
    assert sandbox.run("srun", "sh", "-c", script).stdout.split() == ["PENDING"]


def test_jobs_see_slurm_conf_and_nothing_of_the_daemons_environment(
    sandbox: RunningSandbox,
) -> None:
    env = sandbox.run("srun", "--export=NONE", "/usr/bin/env").stdout.splitlines()
    assert f"SLURM_CONF={sandbox.info['slurm_conf']}" in env
    assert not [line for line in env if line.startswith(("RAY_SLURM_SANDBOX", "MYSQL"))]


def test_a_job_log_has_only_what_the_job_printed(sandbox: RunningSandbox, folder: str) -> None:
    options = ("--wait", f"--output={folder}/out")
    sandbox.run("sbatch", *options, "--wrap", "echo batch; srun echo step")
    assert Path(folder, "out").read_text() == "batch\nstep\n"


def test_arrays_are_listed_task_by_task(sandbox: RunningSandbox) -> None:
    job = sandbox.run(
        *("sbatch", "--parsable", "--hold", "--array=0-2", "--output=/dev/null", "--wrap", "true")
    ).stdout.strip()
    try:
        rows = sandbox.run("squeue", "-r", "-h", "-j", job, "-o", "%i").stdout.split()
        assert sorted(rows) == [f"{job}_{task}" for task in range(3)]
    finally:
        sandbox.run("scancel", job)


def test_heterogeneous_jobs_run_their_parts_side_by_side(
    sandbox: RunningSandbox, folder: str
) -> None:
    script = (
        "#!/bin/sh\n#SBATCH -n1 -c1 -w n1\n#SBATCH hetjob\n#SBATCH -n1 -c2 -w n2\n"
        "srun --het-group=0,1 hostname\n"
    )
    sandbox.run("sbatch", "--wait", f"--output={folder}/out", stdin=script)
    assert sorted(Path(f"{folder}/out").read_text().split()) == ["n1", "n2"]


def test_a_gpu_job_gets_the_gpus_it_asked_for(sandbox: RunningSandbox) -> None:
    def visible(gres: str) -> str:
        step = ("srun", f"--gres={gres}", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
        return sandbox.run(*step).stdout.strip()

    assert visible("gpu:1") in ("0", "1")
    assert visible("gpu:a100:2") == "0,1"


def test_a_second_step_overlaps_the_first(sandbox: RunningSandbox) -> None:
    both = "srun sleep 30 & srun --overlap hostname; kill $!; wait"
    assert sandbox.run("salloc", "-n1", "-w", "n1", "sh", "-c", both).stdout.split() == ["n1"]


def test_an_interactive_step_has_a_terminal(sandbox: RunningSandbox) -> None:
    # script(1) gives srun the terminal that it hands on.
    printed = sandbox.run("script", "-qec", "srun --pty tty", "/dev/null").stdout
    assert "/dev/pts/" in printed


def test_accounting_knows_a_finished_job_and_its_user(sandbox: RunningSandbox) -> None:
    argv = (
        "sbatch",
        "--parsable",
        "--wait",
        "--comment=c d",
        "--output=/dev/null",
        "--wrap=exit 3",
    )
    job = sandbox.run(*argv, check=False).stdout.strip()
    query = ("sacct", "-X", "-n", "-P", "-j", job, "-o", "State,User,Account,ExitCode,Comment")
    row = wait_for(lambda: "FAILED" in (text := sandbox.run(*query).stdout) and text)
    assert row.strip() == "FAILED|user1|research|3:0|c d"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--partition=down"], "PartitionDown"),
        (["--qos=tiny", "--cpus-per-task=2"], "QOSGrpCpuLimit"),
        (["--cpus-per-task=4", "--dependency=singleton", "--hold"], "JobHeldUser"),
    ],
)
def test_jobs_can_be_made_to_wait_for_a_known_reason(
    sandbox: RunningSandbox, options: list[str], reason: str
) -> None:
    argv = ("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", "true")
    job = sandbox.run(*argv).stdout.strip()
    try:
        query = ("squeue", "-h", "-j", job, "-o", "%r")
        wait_for(lambda: sandbox.run(*query).stdout.strip() == reason)
    finally:
        sandbox.run("scancel", job)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--account=nobody"], "Invalid account"),
        (["--partition=nowhere"], "invalid partition"),
        (["--qos=nothing"], "Invalid qos"),
    ],
)
def test_slurm_refuses_what_a_site_would_refuse(
    sandbox: RunningSandbox, options: list[str], words: str
) -> None:
    refused = sandbox.run("sbatch", *options, "--wrap", "true", check=False)
    assert refused.returncode == 1
    assert words in refused.stderr


def test_a_preempted_batch_script_is_warned_before_it_is_killed(
    sandbox: RunningSandbox, folder: str
) -> None:
    out = Path(folder, "out")
    script = "#!/bin/sh\ntrap 'echo warned' USR1\necho running\nwhile :; do sleep 60 & wait; done\n"
    hosts = list(sandbox.info["hosts"])
    job = sandbox.run(
        *("sbatch", "--parsable", "--no-requeue", "--partition=scavenge", "--exclusive"),
        *("--signal=B:USR1@5", "-w", hosts[-1], f"--output={out}"),
        stdin=script,
    ).stdout.strip()
    try:
        wait_for(lambda: out.exists() and "running" in out.read_text())
        assert sandbox.run("srun", "-w", hosts[-1], "hostname").stdout.strip() == hosts[-1]
        assert "warned" in out.read_text().splitlines()
        query = ("sacct", "-X", "-n", "-P", "-j", job, "-o", "State")
        wait_for(lambda: sandbox.run(*query).stdout.strip() == "PREEMPTED")
    finally:
        sandbox.run("scancel", job)


def test_what_a_step_leaves_behind_fares_as_the_process_tracking_says(
    sandbox: RunningSandbox,
) -> None:
    assert left_behind(sandbox) == (0 if sandbox.info["proctrack"] == "cgroup" else 1)


def test_memory_limits_are_enforced_under_cgroups(sandbox: RunningSandbox) -> None:
    if sandbox.info["proctrack"] != "cgroup":
        pytest.skip("this sandbox was booted without --proctrack cgroup")
    hungry = ("python3", "-c", "x = bytearray(400 << 20); print(len(x))")
    ended = sandbox.run("srun", "--mem=100M", *hungry, check=False)
    assert ended.stdout == ""
    assert "Out Of Memory" in ended.stderr
