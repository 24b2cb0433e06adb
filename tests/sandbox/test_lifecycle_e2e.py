"""Power loss, pauses, repair, and that nothing is left. These disturb whoever uses the sandbox."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import Paths
from sandbox.daemons import process_mark
from sandbox.processes import identify, with_environment
from tests.sandbox.left_behind import left_behind
from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

LONG_JOB = ("sbatch", "--parsable", "--no-requeue", "--output=/dev/null", "--wrap", "sleep 600")


@pytest.fixture
def quiet(sandbox: RunningSandbox) -> Iterator[RunningSandbox]:
    """The sandbox while nobody else has jobs in it; whole again afterwards."""
    if not sandbox.is_ours and sandbox.run("squeue", "-h").stdout:
        pytest.skip("somebody uses this sandbox, and this test would disturb them")
    yield sandbox
    sandbox.control("up")


@pytest.fixture
def ours(sandbox: RunningSandbox) -> Iterator[RunningSandbox]:
    """A sandbox that this session booted, and so may take down; up again afterwards."""
    if not sandbox.is_ours:
        pytest.skip("this sandbox was up before the tests; only `down` by its owner may end it")
    yield sandbox
    sandbox.control("up")


def recorded() -> dict[str, Any]:
    state: dict[str, Any] = json.loads(Paths.from_environment().state.read_text())
    return state


def traces(info: dict[str, Any]) -> list[str]:
    """Whatever of a sandbox is still on this machine."""
    data = info["data_dir"]
    found = [
        f"process {process.pid}" for process in with_environment(*process_mark(Paths(Path(data))))
    ]
    for path in (
        data,
        *(str(group) for group in Path("/sys/fs/cgroup").glob("*/slurm_n[0-9]*")),
    ):
        if Path(path).exists():
            found.append(path)
    found += [name for _, name in socket.if_nameindex() if name.startswith(("rsbr", "rs-n"))]
    for table in ("/etc/hosts", "/etc/passwd", "/etc/group", "/proc/mounts"):
        for word in ("ray-slurm-sandbox", data, *info["users"]):
            if word in Path(table).read_text():
                found.append(f"{word} in {table}")
    return found


def test_up_again_is_harmless(quiet: RunningSandbox) -> None:
    before = recorded()
    began = time.monotonic()
    quiet.control("up")
    assert recorded() == before
    assert time.monotonic() - began < 10


def test_a_host_without_power_is_silent_and_comes_back(quiet: RunningSandbox) -> None:
    host, address = list(quiet.info["hosts"].items())[-1]
    job = quiet.run(*LONG_JOB, "-w", host).stdout.strip()
    try:
        wait_for(lambda: quiet.run("squeue", "-h", "-j", job, "-o", "%T").stdout == "RUNNING\n")
        init = identify(recorded()["processes"][f"host-{host}"]["pid"])
        assert init is not None
        quiet.control("kill", host)
        assert identify(init.pid) != init
        assert quiet.run("ping", "-c1", "-W1", address, user=None, check=False).returncode != 0
        refused = quiet.run("true", host=host, check=False)
        assert f"Host {host} is off" in refused.stderr
        assert "power off" in quiet.control("status").stdout

        quiet.control("start", host)
        assert quiet.run("srun", "-w", host, "--exclusive", "hostname").stdout == f"{host}\n"
        state = quiet.run("sacct", "-X", "-n", "-P", "-j", job, "-o", "State").stdout
        assert state.strip() == "NODE_FAIL"
    finally:
        quiet.run("scancel", job)


def test_a_paused_slurmctld_lets_commands_time_out_and_then_goes_on(quiet: RunningSandbox) -> None:
    quiet.control("pause", "slurmctld")
    try:
        assert "slurmctld  paused" in quiet.control("status").stdout
        stuck = quiet.run("squeue", check=False)
        assert stuck.returncode == 1
        # Slurm 23.11 (Ubuntu 24.04) calls it "Unexpected message received".
        assert "Socket timed out" in stuck.stderr or "Unexpected message" in stuck.stderr
    finally:
        quiet.control("resume", "slurmctld")
    quiet.run("squeue")


@pytest.mark.parametrize("name", ["munged", "mariadbd", "slurmdbd", "slurmctld", "sshd"])
def test_a_daemon_that_died_is_named_and_started_again(quiet: RunningSandbox, name: str) -> None:
    os.kill(recorded()["processes"][name]["pid"], signal.SIGKILL)
    wait_for(lambda: f"{name:<10} dead" in quiet.control("status", check=False).stdout)
    assert f"{name} has died" in quiet.control("up").stdout
    assert quiet.run("srun", "hostname").stdout


def test_a_slurmd_that_died_does_not_end_its_jobs(quiet: RunningSandbox) -> None:
    host = list(quiet.info["hosts"])[-1]
    job = quiet.run(*LONG_JOB, "-w", host).stdout.strip()
    try:
        query = ("squeue", "-h", "-j", job, "-o", "%T")
        wait_for(lambda: quiet.run(*query).stdout == "RUNNING\n")
        os.kill(recorded()["processes"][f"slurmd-{host}"]["pid"], signal.SIGKILL)
        wait_for(lambda: "slurmd dead" in quiet.control("status").stdout)
        assert f"slurmd of {host} died" in quiet.control("up").stdout
        assert quiet.run(*query).stdout == "RUNNING\n"
    finally:
        quiet.run("scancel", job)


def test_down_leaves_nothing_even_with_jobs_and_sessions(ours: RunningSandbox) -> None:
    ours.run(*LONG_JOB, "--array=0-2", "--partition=long")
    edge, key = ours.info["edge"], ours.info["users"]["user1"]["key_path"]
    ssh = (
        *("ssh", "-i", key, "-p", str(edge["ssh_port"]), "-o", "BatchMode=yes"),
        *("-o", f"UserKnownHostsFile={ours.info['known_hosts']}", f"user1@{edge['address']}"),
    )
    uid = pwd.getpwnam("user1").pw_uid
    with subprocess.Popen([*ssh, "echo in; sleep 600"], stdout=subprocess.PIPE) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"in\n"
        ours.control("down")
        session.wait(10)
    wait_for(lambda: traces(ours.info) == [])
    processes = subprocess.run(["ps", "-e", "-o", "uid="], capture_output=True, text=True)
    assert str(uid) not in processes.stdout.split()
    assert ours.control("down").returncode == 0
    refused = ours.control("status", check=False)
    assert "The sandbox is not up" in refused.stderr


def test_up_takes_less_than_a_minute_and_linuxproc_is_there_for_the_asking(
    ours: RunningSandbox,
) -> None:
    ours.control("down")
    began = time.monotonic()
    ours.control("up", "--proctrack", "linuxproc")
    assert time.monotonic() - began < 60
    assert left_behind(ours) == 1


@pytest.mark.parametrize("step", ["slurmdbd:", "sshd:"])
def test_an_interrupted_up_is_cleaned_up_by_down(ours: RunningSandbox, step: str) -> None:
    ours.control("down")
    argv = [*ours.run_argv()[:3], "up"]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        for line in up.stdout:
            if step in line:
                break
        up.kill()
    ours.control("down")
    wait_for(lambda: traces(ours.info) == [])


def test_the_state_of_before_a_reboot_is_not_believed(ours: RunningSandbox) -> None:
    ours.control("down")
    paths = Paths(Path(ours.info["data_dir"]))
    with subprocess.Popen(["sleep", "60"]) as bystander:
        try:
            process = identify(bystander.pid)
            assert process is not None
            paths.data.mkdir()
            entry = {"pid": process.pid, "start_ticks": process.start_ticks}
            paths.state.write_text(
                json.dumps(
                    {
                        "shape": {},
                        "boot_id": "of before",
                        "env_prefix": None,
                        "is_complete": True,
                        "has_firewall_rule": False,
                        "has_sshd_folder": False,
                        "processes": {"slurmctld": entry},
                    }
                )
            )
            assert "is not up" in ours.control("status", check=False).stderr
            ours.control("down")
            assert not paths.data.exists()
            assert bystander.poll() is None
        finally:
            bystander.kill()
