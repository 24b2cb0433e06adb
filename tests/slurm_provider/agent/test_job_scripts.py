"""The shell scripts of a job, run by real shells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "slurm_provider" / "job_scripts"
PATH = os.environ["PATH"]


def run(
    *argv: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 20
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in argv], env={"PATH": PATH, **(env or {})},
        capture_output=True, text=True, timeout=timeout_s,
    )  # fmt: skip


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class TestUnpack:
    """A packed environment on a host."""

    @pytest.fixture
    def archive(self, tmp_path: Path) -> Path:
        return self.pack(tmp_path, "one")

    def pack(self, tmp_path: Path, word: str, unpacker: str = "") -> Path:
        content = tmp_path / f"content-{word}"
        executable(content / "bin" / "hello", f"#!/bin/sh\necho {word}\n")
        if unpacker:
            executable(content / "bin" / "python", '#!/bin/sh\nexec sh "$@"\n')
            executable(content / "bin" / "conda-unpack", unpacker)
        path = tmp_path / "my env.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            tar.add(content, ".")
        return path

    def unpack(
        self, archive: Path, base: Path, command: str = "hello"
    ) -> subprocess.CompletedProcess[str]:
        line = f'RAY_SLURM_ARCHIVE="{archive}"; . {SCRIPTS / "unpack.sh"} && {command}'
        return run("bash", "-c", line, env={"TMPDIR": str(base)})

    def folders(self, base: Path) -> list[Path]:
        return [p for p in (base / f"rs-env-{os.getuid()}").iterdir() if p.is_dir()]

    def test_the_environment_is_on_path_and_private(self, archive: Path, tmp_path: Path) -> None:
        done = self.unpack(archive, tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")
        base = tmp_path / f"rs-env-{os.getuid()}"
        assert base.stat().st_mode & 0o777 == 0o700

    def test_ten_nodes_at_once_unpack_one_time(self, tmp_path: Path) -> None:
        # conda-unpack is run once per unpacking, so its log counts them.
        log = tmp_path / "log"
        archive = self.pack(tmp_path, "one", unpacker=f"echo unpacked >> {log}; sleep 0.2\n")
        line = f'RAY_SLURM_ARCHIVE="{archive}"; . {SCRIPTS / "unpack.sh"} && hello'
        with ExitStack() as stack:
            shells = [
                stack.enter_context(
                    subprocess.Popen(
                        ["bash", "-c", line], env={"PATH": PATH, "TMPDIR": str(tmp_path)},
                        stdout=subprocess.PIPE, text=True,
                    )
                )
                for _ in range(10)
            ]  # fmt: skip
            assert [shell.communicate()[0] for shell in shells] == ["one\n"] * 10
        assert log.read_text() == "unpacked\n"

    def test_a_second_node_uses_what_is_there(self, archive: Path, tmp_path: Path) -> None:
        self.unpack(archive, tmp_path)
        (folder,) = self.folders(tmp_path)
        (folder / "bin" / "hello").write_text("#!/bin/sh\necho the same folder\n")
        assert self.unpack(archive, tmp_path).stdout == "the same folder\n"

    def test_a_changed_archive_gets_a_new_folder(self, archive: Path, tmp_path: Path) -> None:
        self.unpack(archive, tmp_path)
        self.pack(tmp_path, "another")
        assert self.unpack(archive, tmp_path).stdout == "another\n"
        assert len(self.folders(tmp_path)) == 2

    def test_an_interrupted_unpacking_is_done_again(self, archive: Path, tmp_path: Path) -> None:
        self.unpack(archive, tmp_path)
        (folder,) = self.folders(tmp_path)
        (folder / ".complete").unlink()
        (folder / "bin" / "hello").unlink()
        assert self.unpack(archive, tmp_path).stdout == "one\n"

    def test_what_no_job_used_for_a_week_makes_room_for_the_next(
        self, archive: Path, tmp_path: Path
    ) -> None:
        self.unpack(archive, tmp_path)
        (old,) = self.folders(tmp_path)
        self.age(old)
        half = old.parent / "killed-while-unpacking"
        half.mkdir()
        self.pack(tmp_path, "another")
        assert self.unpack(archive, tmp_path).stdout == "another\n"
        (new,) = self.folders(tmp_path)
        assert new not in (old, half)

    def test_an_old_environment_whose_removal_was_killed_is_not_taken_for_whole(
        self, archive: Path, tmp_path: Path
    ) -> None:
        self.unpack(archive, tmp_path)
        (old,) = self.folders(tmp_path)
        self.age(old)
        another = self.pack(tmp_path, "another")
        killed = executable(
            tmp_path / "killing" / "rm",
            f"""#!/bin/sh
case "$*" in
"-rf {old}") /bin/rm -rf {old}/bin; kill -9 $PPID ;;
*) exec /bin/rm "$@" ;;
esac
""",
        )
        line = (
            f'PATH={killed.parent}:$PATH RAY_SLURM_ARCHIVE="{another}"; . {SCRIPTS / "unpack.sh"}'
        )
        run("bash", "-c", line, env={"TMPDIR": str(tmp_path)})
        assert not (old / "bin").exists() and not (old / ".complete").exists()

    def test_an_old_environment_that_a_job_still_uses_stays(
        self, archive: Path, tmp_path: Path
    ) -> None:
        line = f'RAY_SLURM_ARCHIVE="{archive}"; . {SCRIPTS / "unpack.sh"} && echo up && exec cat'
        with subprocess.Popen(
            ["bash", "-c", line], env={"PATH": PATH, "TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as job:  # fmt: skip
            assert job.stdout is not None and job.stdout.readline() == "up\n"
            (old,) = self.folders(tmp_path)
            self.age(old)
            self.pack(tmp_path, "another")
            assert self.unpack(archive, tmp_path).stdout == "another\n"
            assert old in self.folders(tmp_path)
            job.communicate("")

    def age(self, folder: Path) -> None:
        os.utime(folder / ".complete", (time.time() - 8 * 86400,) * 2)

    def test_an_archive_that_cannot_be_read_is_one_clear_message(self, tmp_path: Path) -> None:
        done = self.unpack(tmp_path / "none.tar", tmp_path, command="echo reached")
        assert done.returncode != 0 and done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"[job] provider.environment.archive: {tmp_path}/none.tar cannot")

    def test_a_damaged_archive_is_named_and_leaves_nothing_to_trust(self, tmp_path: Path) -> None:
        archive = tmp_path / "damaged.tar"
        archive.write_bytes(b"no tar at all")
        for _ in range(2):  # the second node must not find it "complete"
            done = self.unpack(archive, tmp_path, command="echo reached")
            assert done.returncode != 0 and done.stdout == ""
            assert f"[job] unpacking {archive} to " in done.stderr

    def test_a_failing_conda_unpack_fails_the_unpacking(self, tmp_path: Path) -> None:
        archive = self.pack(tmp_path, "one", unpacker="exit 3\n")
        done = self.unpack(archive, tmp_path, command="echo reached")
        assert done.returncode != 0 and "[job] unpacking" in done.stderr

    @pytest.mark.parametrize("planted", ["link", "folder", "open folder"])
    def test_a_planted_folder_costs_nothing_and_gets_nothing(
        self, archive: Path, tmp_path: Path, planted: str
    ) -> None:
        disk, known = tmp_path / "disk", tmp_path / "disk" / f"rs-env-{os.getuid()}"
        victim = tmp_path / "victim"
        for folder in (disk, victim):
            folder.mkdir()
        if planted == "link":
            known.symlink_to(victim)
        else:
            known.mkdir()
            if planted == "open folder":
                known.chmod(0o777)
            elif os.getuid() == 0:
                os.chown(known, 12345, 12345)
            else:
                pytest.skip("giving a folder away needs root")
        for _ in range(2):  # the second node finds what the first made
            assert self.unpack(archive, disk).stdout == "one\n"
        (other,) = [path for path in disk.iterdir() if path != known]
        assert other.stat().st_mode & 0o777 == 0o700
        assert len([path for path in other.iterdir() if path.is_dir()]) == 1
        assert list(victim.iterdir()) == [] == list(known.iterdir())

    def test_a_disk_where_anybody_replaces_anything_is_passed_over(
        self, archive: Path, tmp_path: Path
    ) -> None:
        bad, good = tmp_path / "bad", tmp_path / "good"
        bad.mkdir()
        bad.chmod(0o777)
        good.mkdir()
        line = f'RAY_SLURM_ARCHIVE="{archive}"; . {SCRIPTS / "unpack.sh"} && hello'
        done = run("bash", "-c", line, env={"SLURM_TMPDIR": str(bad), "TMPDIR": str(good)})
        assert (done.stdout, done.stderr) == ("one\n", "")
        assert list(bad.iterdir()) == [] and self.folders(good)


class TestNodeScript:
    """The batch script: activate, then become the agent."""

    @pytest.fixture
    def cluster(self, tmp_path: Path) -> Path:
        (tmp_path / "launches").mkdir()
        (tmp_path / "agent.py").write_text("import os, sys; print(os.getpid(), sys.argv[1:])\n")
        return tmp_path

    def start(
        self, cluster: Path, activation: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        (cluster / "launches" / "abc.activate").write_text(activation)
        return run("bash", SCRIPTS / "node.sh", cluster, cluster / "agent.py", "abc", env=env)

    def test_the_shell_becomes_the_agent(self, cluster: Path) -> None:
        (cluster / "launches" / "abc.activate").write_text(":\n")
        argv = ["bash", str(SCRIPTS / "node.sh"), str(cluster), str(cluster / "agent.py"), "abc"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            output = process.communicate(timeout=20)[0]
        # The same pid: Slurm's --signal=B: reaches the agent.
        assert output.strip() == f"{process.pid} ['node', '{cluster}', 'abc']"

    def test_the_activation_decides_which_python(self, cluster: Path) -> None:
        executable(cluster / "venv" / "bin" / "python3", '#!/bin/sh\necho "mine $1"\n')
        done = self.start(cluster, f'export PATH={cluster}/venv/bin:"$PATH"\n')
        assert done.stdout == f"mine {cluster}/agent.py\n"

    def test_the_job_began_before_the_activation(self, cluster: Path) -> None:
        (cluster / "agent.py").write_text("import os; print(os.environ['RAY_SLURM_STARTED'])\n")
        before = int(time.time())
        done = self.start(cluster, f'echo "$RAY_SLURM_STARTED" > {cluster}/began\n')
        assert done.stdout == (cluster / "began").read_text()
        assert before <= float(done.stdout) <= time.time()

    def test_variables_of_the_activation_do_not_disturb(self, cluster: Path) -> None:
        done = self.start(cluster, "code=/my/code; launch=x; cluster_dir=~; prefix=/usr\n")
        assert f"['node', '{cluster}', 'abc']" in done.stdout

    @pytest.mark.parametrize(
        "broken", ["false\n", ". /nonexistent/activate\n", "module_that_is_not_there load x\n",
                   "if true; then\n"]
    )  # fmt: skip
    def test_a_broken_activation_ends_the_job_with_a_sentence(
        self, cluster: Path, broken: str
    ) -> None:
        done = self.start(cluster, broken)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.splitlines()[-1] == (
            "[job] activating the environment failed (provider.environment)"
        )

    def test_a_job_that_slurm_requeued_does_not_bring_an_ended_node_back(
        self, cluster: Path
    ) -> None:
        done = self.start(cluster, ":\n", {"SLURM_RESTART_COUNT": "1"})
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith("[job] Slurm requeued this job")

    def test_a_missing_python_ends_the_job_with_a_sentence(self, cluster: Path) -> None:
        done = self.start(cluster, "PATH=/nonexistent\n")
        assert done.returncode == 1
        assert done.stderr.startswith("[job] there is no python3 on PATH of ")
        assert len(done.stderr.splitlines()) == 1


class TestRay:
    """`ray` on a node."""

    @pytest.fixture
    def env(self, tmp_path: Path) -> dict[str, str]:
        # Prints what Ray would get, one argument a line.
        real = executable(tmp_path / "real-ray", "#!/bin/sh\nprintf '%s\\n' real \"$@\"\n")
        (tmp_path / "ray-options.json").write_text(
            json.dumps({"--block": None, "--node-ip-address": "10.0.0.1", "--port": "20007",
                        "--num-cpus": "4", "--ray-client-server-port": "20008",
                        "--dashboard-host": "127.0.0.1", "--dashboard-port": "20009",
                        "--temp-dir": "/tmp/rs-0/h"})
        )  # fmt: skip
        return {
            "RAY_SLURM_PYTHON": sys.executable,
            "RAY_SLURM_CODE": str(ROOT / "slurm_provider" / "agent" / "main.py"),
            "RAY_SLURM_RAY": str(real),
            "RAY_SLURM_NODE": str(tmp_path),
            "RAY_SLURM_CONFIG": "/shared/bootstrap.json",
            "RAY_enable_autoscaler_v2": "1",
            "PYTHONPATH": str(ROOT),
        }

    @pytest.fixture
    def agent(self) -> Iterator[subprocess.Popen[bytes]]:
        """Something with a pid that does nothing on SIGUSR2 but live on."""
        process = subprocess.Popen(
            [
                "bash",
                "-c",
                "trap 'echo usr2' USR2; echo up; while :; do read -t 0.05 <> <(:); done",
            ],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        yield process
        process.kill()
        process.communicate()

    @pytest.mark.parametrize("arguments", [["status", "-v"], ["job", "list"], []])
    def test_other_commands_are_rays_own(self, env: dict[str, str], arguments: list[str]) -> None:
        done = run("sh", SCRIPTS / "ray", *arguments, env=env)
        assert done.stdout.split() == ["real", *arguments]

    def test_start_gets_the_nodes_options_below_the_users(
        self, env: dict[str, str], tmp_path: Path
    ) -> None:
        config = "--autoscaling-config=~/ray_bootstrap_config.yaml"
        done = run("sh", SCRIPTS / "ray", "start", "--head", "--num-cpus", "0", config, env=env)
        assert done.stdout.split() == [
            "real", "start", "--head", "--num-cpus", "0",
            "--autoscaling-config=/shared/bootstrap.json", "--block", "--node-ip-address=10.0.0.1",
            "--port=20007", "--ray-client-server-port=20008", "--dashboard-host=127.0.0.1",
            "--dashboard-port=20009", "--temp-dir=/tmp/rs-0/h",
        ]  # fmt: skip
        assert json.loads((tmp_path / "ray-started.json").read_text()) == {
            "address": "10.0.0.1",
            "port": "20007",
            "temp_dir": "/tmp/rs-0/h",
            "client_port": "20008",
            "dashboard_host": "127.0.0.1",
            "dashboard_port": "20009",
        }

    @pytest.mark.parametrize(
        ("given", "expected"),
        [("--node-ip-address=localhost", "10.0.0.1"), ("--node-ip-address=10.0.0.1", "10.0.0.1")],
    )
    def test_an_address_of_the_users_is_a_number_for_ray_and_others(
        self, env: dict[str, str], tmp_path: Path, given: str, expected: str
    ) -> None:
        done = run("sh", SCRIPTS / "ray", "start", "--head", given, env=env)
        addresses = [line for line in done.stdout.split() if "address" in line]
        assert (addresses[0], addresses[-1]) == (given, f"--node-ip-address={expected}")
        assert json.loads((tmp_path / "ray-started.json").read_text())["address"] == expected

    def test_an_address_of_another_host_is_refused(
        self, env: dict[str, str], tmp_path: Path
    ) -> None:
        done = run(
            "sh", SCRIPTS / "ray", "start", "--head", "--node-ip-address=203.0.113.7", env=env
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "203.0.113.7 (203.0.113.7) is no address of" in done.stderr
        assert not (tmp_path / "ray-started.json").exists()

    def test_start_of_a_worker_is_refused(self, env: dict[str, str]) -> None:
        done = run("sh", SCRIPTS / "ray", "start", "--address=1.2.3.4:6379", env=env)
        assert done.returncode == 2 and "managed by Slurm" in done.stderr

    def test_start_without_autoscaler_v2_is_refused(
        self, env: dict[str, str], tmp_path: Path
    ) -> None:
        del env["RAY_enable_autoscaler_v2"]
        done = run("sh", SCRIPTS / "ray", "start", "--head", env=env)
        assert done.returncode == 2 and "needs autoscaler v2" in done.stderr
        assert not (tmp_path / "ray-started.json").exists()

    def test_stop_does_nothing_where_no_ray_runs(self, env: dict[str, str]) -> None:
        done = run("sh", SCRIPTS / "ray", "stop", "--force", env=env)
        assert (done.returncode, done.stdout) == (0, "Ray is not running on this node.\n")

    def test_stop_asks_the_nodes_agent_and_waits(
        self, env: dict[str, str], tmp_path: Path, agent: subprocess.Popen[bytes]
    ) -> None:
        report = tmp_path / "node.json"
        report.write_text(json.dumps({"pid": agent.pid, "state": "joined"}))

        def answer() -> None:
            assert agent.stdout is not None
            if agent.stdout.readline() == b"usr2\n":
                report.with_suffix(".new").write_text(
                    json.dumps({"pid": agent.pid, "state": "ready"})
                )
                report.with_suffix(".new").rename(report)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        done = run("sh", SCRIPTS / "ray", "stop", env=env, timeout_s=30)
        assert (done.returncode, done.stdout) == (0, "Stopped this node's Ray.\n")
        assert agent.poll() is None

    def test_stop_of_a_node_whose_agent_died_is_no_error(
        self, env: dict[str, str], tmp_path: Path
    ) -> None:
        gone = subprocess.Popen(["true"])
        gone.wait()
        (tmp_path / "node.json").write_text(json.dumps({"pid": gone.pid, "state": "joined"}))
        assert run("sh", SCRIPTS / "ray", "stop", env=env).returncode == 0
