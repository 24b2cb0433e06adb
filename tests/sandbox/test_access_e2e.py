"""`run` and SSH: how commands get into the sandbox."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import paramiko
import pytest

from tests.sandbox_fixture import ROOT, RunningSandbox, wait_for

pytestmark = pytest.mark.sandbox

EDGE_AND_HOST = pytest.mark.parametrize("host", [None, "n2"])


@EDGE_AND_HOST
def test_exit_code_and_streams_pass_through(sandbox: RunningSandbox, host: str | None) -> None:
    script = "read line; echo out $line; echo err >&2; exit 7"
    ended = sandbox.run("sh", "-c", script, host=host, stdin="in\n", check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "out in\n", "err\n")


@EDGE_AND_HOST
def test_a_command_runs_in_the_users_home_as_after_a_login(
    sandbox: RunningSandbox, host: str | None
) -> None:
    home = sandbox.info["users"]["user2"]["home"]
    printed = sandbox.run("sh", "-c", "hostname; id -un; pwd; env", user="user2", host=host).stdout
    name, user, folder, *env = printed.splitlines()
    assert (name, user, folder) == (host or "edge", "user2", home)
    variables = dict(line.split("=", 1) for line in env)
    assert variables["HOME"] == home
    assert variables["SLURM_CONF"] == sandbox.info["slurm_conf"]
    prefix = sandbox.info["env_prefix"]
    assert prefix is None or variables["PATH"].startswith(f"{prefix}/bin:")
    allowed = {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "SLURM_CONF", "TERM", "PWD"}
    assert set(variables) <= allowed | {"OLDPWD", "SHLVL", "_"}


@EDGE_AND_HOST
def test_without_a_user_it_is_root_in_the_same_folder(
    sandbox: RunningSandbox, host: str | None
) -> None:
    printed = sandbox.run("sh", "-c", "id -un; pwd", user=None, host=host).stdout
    assert printed.splitlines() == ["root", str(ROOT)]


@EDGE_AND_HOST
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_run_reaches_the_command(
    sandbox: RunningSandbox, host: str | None, number: signal.Signals
) -> None:
    # Python, because a shell without a terminal may ignore SIGINT in its children.
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(41))\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    argv = sandbox.run_argv("python3", "-c", script, host=host)
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(10) == (41 if number is signal.SIGTERM else 42)


def test_ctrl_c_at_a_terminal_reaches_a_command_on_a_host_once(sandbox: RunningSandbox) -> None:
    script = (
        "import os, signal, time\n"
        # Not by print, which a signal in the middle of another print would break.
        "signal.signal(signal.SIGINT, lambda *_: os.write(1, b'interrupted\\n'))\n"
        "os.write(1, b'ready\\n')\n"
        "time.sleep(1.5)\n"  # the time in which a second one would arrive
    )
    argv = sandbox.run_argv("python3", "-c", script, host="n2")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(argv[0], argv)
    try:
        printed = b""
        while b"ready" not in printed:
            printed += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        try:
            while chunk := os.read(terminal, 1000):
                printed += chunk
        except OSError:  # how Linux says that nobody has the terminal open any more
            pass
        assert printed.count(b"interrupted") == 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_command_on_a_host_dies_with_a_killed_run(sandbox: RunningSandbox) -> None:
    argv = sandbox.run_argv("sh", "-c", "echo $$; exec sleep 60", host="n2")
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        process.kill()
    wait_for(lambda: sandbox.run("kill", "-0", pid, host="n2", check=False).returncode != 0)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("run",), "which command?"),
        (("run", "--user", "nobody-here", "true"), "There is no user 'nobody-here'"),
        (("run", "--host", "n99", "true"), "There is no host 'n99'. Hosts: n1"),
        (("run", "no-such-program"), "no-such-program: no such program on PATH="),
        (("run", "--host", "n1", "no-such-program"), "no-such-program: no such program on PATH="),
        (("kill", "n99"), "There is no host 'n99'. Hosts: n1"),
        (("up", "--env", "/nowhere"), "--env /nowhere: there is no folder /nowhere/bin"),
        (("up", "--memory-mb", "5"), "--memory-mb 5 is not possible"),
        (("up", "--gpus", "7"), "for --gpus 7 take it down first"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(
    sandbox: RunningSandbox, argv: tuple[str, ...], words: str
) -> None:
    ended = sandbox.control(*argv, check=False)
    assert ended.returncode != 0
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_root_it_says_what_it_needs(sandbox: RunningSandbox) -> None:
    program = ("/usr/bin/python3", "-m", "sandbox", "up")
    ended = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", *program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "sudo python3 -m sandbox" in ended.stderr


@pytest.mark.parametrize(("user", "host"), [("user1", "n1"), ("user2", None)])
def test_ray_dagster_and_this_project_import_for_users(
    sandbox: RunningSandbox, user: str, host: str | None
) -> None:
    script = "import ray, dagster, slurm_provider, dagster_glue; print(ray.__file__)"
    printed = sandbox.run("python3", "-c", script, user=user, host=host).stdout
    assert printed.startswith(f"{sandbox.info['env_prefix']}/")


def test_a_host_does_not_wait_for_a_name_server_that_it_cannot_reach(
    sandbox: RunningSandbox,
) -> None:
    began = time.monotonic()
    asked = sandbox.run("getent", "hosts", "192.0.2.1", host="n1", check=False)
    assert asked.returncode == 2  # not found
    assert time.monotonic() - began < 4  # the resolver waits 5 s for each server


def test_user2_cannot_read_the_home_of_user1(sandbox: RunningSandbox) -> None:
    home = sandbox.info["users"]["user1"]["home"]
    assert sandbox.run("ls", home, user="user2", check=False).returncode != 0


def connected(sandbox: RunningSandbox, **how: object) -> paramiko.SSHClient:
    """A connection to the edge node that accepts its known host key only."""
    client = paramiko.SSHClient()
    client.load_host_keys(sandbox.info["known_hosts"])
    edge = sandbox.info["edge"]
    client.connect(
        edge["address"],
        edge["ssh_port"],
        allow_agent=False,
        look_for_keys=False,
        **how,  # type: ignore[arg-type]
    )
    return client


@pytest.mark.parametrize("user", ["user1", "user2"])
def test_users_log_in_by_key_and_find_slurm(sandbox: RunningSandbox, user: str) -> None:
    key = sandbox.info["users"][user]["key_path"]
    with connected(sandbox, username=user, key_filename=key) as client:
        output = client.exec_command("id -un; hostname; squeue --noheader >/dev/null; echo $?")[1]
        assert output.read().decode().split() == [user, "edge", "0"]


def test_user1_also_logs_in_by_password(sandbox: RunningSandbox) -> None:
    password = Path(sandbox.info["password_file"]).read_text().strip()
    with connected(sandbox, username="user1", password=password) as client:
        assert client.exec_command("id -un")[1].read() == b"user1\n"
    with pytest.raises(paramiko.AuthenticationException):
        connected(sandbox, username="user1", password=password + "x")


def test_nobody_else_logs_in(sandbox: RunningSandbox) -> None:
    key = sandbox.info["users"]["user1"]["key_path"]
    for user in ("root", "user2"):
        with pytest.raises(paramiko.AuthenticationException):
            connected(sandbox, username=user, key_filename=key)


def test_login_shells_keep_the_environment(sandbox: RunningSandbox) -> None:
    key = sandbox.info["users"]["user1"]["key_path"]
    with connected(sandbox, username="user1", key_filename=key) as client:
        printed = client.exec_command("bash -lc 'echo $PATH $SLURM_CONF'")[1].read().decode()
    path = sandbox.run("sh", "-c", "echo $PATH").stdout.strip()
    assert printed.split() == [path, sandbox.info["slurm_conf"]]


def test_files_travel_by_sftp_to_the_shared_home(sandbox: RunningSandbox) -> None:
    key = sandbox.info["users"]["user1"]["key_path"]
    with connected(sandbox, username="user1", key_filename=key) as client:
        files = client.open_sftp()
        with files.open("by-sftp", "w") as out:
            out.write("hello")
    assert sandbox.run("cat", "by-sftp", host="n1").stdout == "hello"


def test_a_tunnel_leads_to_a_host(sandbox: RunningSandbox) -> None:
    # slurmd's port: something on the host that listens.
    target = (sandbox.info["hosts"]["n2"], 6818)
    key = sandbox.info["users"]["user1"]["key_path"]
    with connected(sandbox, username="user1", key_filename=key) as client:
        transport = client.get_transport()
        assert transport is not None
        transport.open_channel("direct-tcpip", target, ("127.0.0.1", 0), timeout=10).close()
        with pytest.raises(paramiko.ChannelException):
            transport.open_channel("direct-tcpip", (target[0], 1), ("127.0.0.1", 0), timeout=10)


def test_a_job_may_log_in_to_the_edge_node_with_the_users_own_key(
    sandbox: RunningSandbox,
) -> None:
    edge = sandbox.info["edge"]
    ssh = ("ssh", "-o", "BatchMode=yes", "-p", str(edge["ssh_port"]), edge["address"], "hostname")
    assert sandbox.run("srun", "-w", "n1", *ssh).stdout.strip() == "edge"
