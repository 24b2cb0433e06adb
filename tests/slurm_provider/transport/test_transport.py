"""What both transports promise."""

from __future__ import annotations

import os
import shlex
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slurm_provider.transport import (
    CommandNotFound,
    CommandTimeout,
    ConnectFailed,
    Transport,
    TransportError,
)
from tests.slurm_provider.transport.real_sshd import eventually

WEIRD = [
    "",
    " ",
    "a b",
    "'",
    '"',
    'it\'s "so"',
    "$(touch /tmp/never)",
    "`id`",
    "$HOME",
    "a\nb\n",
    "\t",
    "*",
    "~",
    "!!",
    "a\\nb\\",
    "-n",
    "grüße 日本語 🚀",
    ";|&<>()#",
    "x" * 5000,
]
PRINT_ARGUMENTS = [sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))"]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_exit_code_and_both_streams_come_back(transport: Transport) -> None:
    done = transport.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=20)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert done.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")


def test_arguments_arrive_unchanged_whatever_they_contain(transport: Transport) -> None:
    done = transport.run([*PRINT_ARGUMENTS, *WEIRD], timeout_s=20)
    assert done.stdout.strip() == ascii(WEIRD)


def test_standard_input_is_passed_on_and_ended(transport: Transport) -> None:
    data = os.urandom(5_000_000)
    done = transport.run(["sh", "-c", "wc -c"], timeout_s=60, stdin=data)
    assert done.stdout.strip() == "5000000"


def test_without_standard_input_a_reader_sees_its_end(transport: Transport) -> None:
    assert transport.run(["cat"], timeout_s=20).stdout == ""


def test_a_command_that_ignores_its_input_does_not_hang(transport: Transport) -> None:
    done = transport.run(["true"], timeout_s=20, stdin=b"x" * 5_000_000)
    assert done.returncode == 0


def test_twenty_megabytes_on_both_streams_at_once_do_not_deadlock(transport: Transport) -> None:
    script = "head -c 20000000 /dev/zero | tr '\\0' o & head -c 20000000 /dev/zero | tr '\\0' e >&2"
    done = transport.run(["sh", "-c", f"{script}; wait"], timeout_s=120)
    assert done.stdout == "o" * 20_000_000
    assert done.stderr == "e" * 20_000_000


def test_bytes_that_are_no_text_are_replaced(transport: Transport) -> None:
    done = transport.run(["printf", "a\\377b"], timeout_s=20)
    assert done.stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_a_command_that_takes_too_long_raises_and_says_so(transport: Transport) -> None:
    with pytest.raises(CommandTimeout, match=r"'sleep' did not end within 0.3 s") as caught:
        transport.run(["sleep", "60"], timeout_s=0.3)
    assert caught.value.transient


def test_a_command_that_ran_out_of_time_is_ended(transport: Transport, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(CommandTimeout):
        transport.run(["sh", "-c", f"echo $$ > {pid_file}; exec sleep 60"], timeout_s=1)
    pid = pid_file.read_text().strip()
    eventually(lambda: not Path("/proc", pid).exists())


def test_a_held_open_output_is_a_timeout_and_no_shortened_result(transport: Transport) -> None:
    with pytest.raises(CommandTimeout):
        transport.run(["sh", "-c", "echo part; sleep 3 & exit 0"], timeout_s=0.7)


@pytest.mark.parametrize("command", ["no-such-command-here", "/no/such/command"])
def test_a_missing_command_is_named(transport: Transport, command: str) -> None:
    with pytest.raises(CommandNotFound, match=rf"{command}.*PATH"):
        transport.run([command, "x"], timeout_s=20)


def test_a_commands_own_exit_code_127_is_not_a_missing_command(transport: Transport) -> None:
    script = "echo inner: not found >&2; exit 127"
    assert transport.run(["sh", "-c", script], timeout_s=20).returncode == 127


def test_a_command_line_that_is_too_long_is_refused_in_words(transport: Transport) -> None:
    with pytest.raises(TransportError, match="too long"):
        transport.run(["true", *["x" * 100_000] * 40], timeout_s=20)


def test_slurm_and_ray_variables_do_not_reach_commands(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "wrong")
    monkeypatch.setenv("RAY_ADDRESS", "wrong")
    environment = transport.run(["env"], timeout_s=20).stdout
    assert "wrong" not in environment
    assert "LC_ALL=C\n" in environment


def test_popen_streams_both_ways(transport: Transport) -> None:
    process = transport.popen(["sh", "-c", "echo ready >&2; cat; exit 5"])
    process.stdin.write(b"ping\n")
    process.stdin.flush()
    assert process.stdout.read1(100) == b"ping\n"

    def feed() -> None:
        process.stdin.write(b"x" * 1_000_000)
        process.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert process.stdout.read() == b"x" * 1_000_000
    feeder.join()
    assert process.wait(10) == 5
    assert process.stderr_tail == "ready\n"


def test_popen_read_returns_as_many_bytes_as_asked(transport: Transport) -> None:
    process = transport.popen(["sh", "-c", "printf abcdef"])
    assert process.stdout.read(4) == b"abcd"
    assert process.stdout.read(4) == b"ef"
    assert process.wait(10) == 0


def test_popen_keeps_only_the_end_of_a_long_standard_error(transport: Transport) -> None:
    process = transport.popen(
        ["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' e >&2; echo end >&2"]
    )
    assert process.wait(20) == 0
    assert len(process.stderr_tail) == 64 * 1024
    assert process.stderr_tail.endswith("end\n")


def test_terminate_ends_a_silent_command(transport: Transport) -> None:
    process = transport.popen(
        ["sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"]
    )
    assert process.stdout.read1(100) == b"ready\n"
    with pytest.raises(CommandTimeout):
        process.wait(0.1)
    process.terminate()
    assert process.wait(10) == 9
    process.terminate()


def test_popen_of_a_missing_command_says_so_at_the_latest_when_waited_for(
    transport: Transport,
) -> None:
    with pytest.raises(CommandNotFound):
        transport.popen(["no-such-command-here"]).wait(10)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o700])
def test_a_written_file_has_its_content_and_mode(
    transport: Transport, tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "a" / "b" / "file name"
    transport.write_file(str(path), b"one\0\xff", mode=mode)
    assert path.read_bytes() == b"one\0\xff"
    assert mode_of(path) == mode
    assert mode_of(path.parent) == mode_of(path.parent.parent) == 0o700
    assert transport.read_file(str(path)) == b"one\0\xff"


def test_replacing_a_file_leaves_nothing_beside_it(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "d" / "f"
    transport.write_file(str(path), b"old", mode=0o644)
    transport.write_file(str(path), b"new" * 1_000_000)
    assert path.read_bytes() == b"new" * 1_000_000
    assert mode_of(path) == 0o600
    assert os.listdir(path.parent) == ["f"]


def test_a_reader_never_sees_half_a_file(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "f"
    contents = {b"a" * 200_000, b"b" * 200_000}
    transport.write_file(str(path), b"a" * 200_000)
    stop = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(5):
            for content in sorted(contents):
                transport.write_file(str(path), content)
    finally:
        stop.set()
        reader.join()
    assert seen <= contents


def test_a_failed_write_leaves_nothing_behind(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "d" / "target").mkdir(parents=True)
    (tmp_path / "d" / "target" / "occupied").touch()
    with pytest.raises(OSError):
        transport.write_file(str(tmp_path / "d" / "target"), b"x")
    assert os.listdir(tmp_path / "d") == ["target"]


def test_a_big_file_comes_back_whole(transport: Transport, tmp_path: Path) -> None:
    data = os.urandom(10_000_000)
    (tmp_path / "big").write_bytes(data)
    assert transport.read_file(str(tmp_path / "big")) == data
    (tmp_path / "empty").touch()
    assert transport.read_file(str(tmp_path / "empty")) == b""


def test_reading_what_is_not_there_raises_file_not_found(
    transport: Transport, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        transport.read_file(str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        transport.list_dir(str(tmp_path / "missing"))


def test_a_folder_is_listed_in_order(transport: Transport, tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden", "grüße"):
        (tmp_path / "d" / name).mkdir(parents=True)
    assert transport.list_dir(str(tmp_path / "d")) == [".hidden", "a", "b", "grüße"]


def test_a_made_folder_has_its_mode_and_may_exist(transport: Transport, tmp_path: Path) -> None:
    path = tmp_path / "x" / "y" / "z"
    transport.make_dir(str(path), mode=0o755)
    assert mode_of(path) == 0o755
    assert mode_of(path.parent) == 0o700
    transport.make_dir(str(path))
    assert mode_of(path) == 0o755


def test_a_folder_cannot_be_made_where_a_file_is(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(OSError):
        transport.make_dir(str(tmp_path / "f"))


def test_a_tree_is_removed_but_not_what_its_links_point_to(
    transport: Transport, tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "f").touch()
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "kept")
    transport.remove_tree(str(tmp_path / "tree"))
    assert sorted(os.listdir(tmp_path / "kept")) == ["f"]
    assert not (tmp_path / "tree").exists()
    transport.remove_tree(str(tmp_path / "tree"))
    (tmp_path / "-rf").touch()
    transport.remove_tree(str(tmp_path / "-rf"))
    assert not (tmp_path / "-rf").exists()


@pytest.mark.parametrize("path", ["/", "//", "/tmp", "/home/", "/tmp/..", "/tmp/../etc"])
def test_top_level_folders_are_never_removed(transport: Transport, path: str) -> None:
    with pytest.raises(ValueError, match="top-level"):
        transport.remove_tree(path)


@pytest.mark.parametrize("path", ["relative/path", "~/file", "", "/nul\0"])
def test_paths_have_to_be_absolute(transport: Transport, path: str) -> None:
    with pytest.raises(ValueError, match="absolute"):
        transport.read_file(path)


def test_home_is_an_existing_absolute_folder(transport: Transport) -> None:
    home = transport.home()
    assert os.path.isabs(home)
    assert transport.home() == home


def test_a_tcp_connection_reaches_a_server(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = transport.open_connection("127.0.0.1", server.getsockname()[1])
        peer, _ = server.accept()
        with peer:
            connection.sendall(b"ping")
            assert peer.recv(4) == b"ping"
            peer.sendall(b"pong")
            assert connection.recv(4) == b"pong"
            connection.shutdown(socket.SHUT_WR)
            assert peer.recv(4) == b""
        connection.close()


def test_a_refused_tcp_connection_names_the_address(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectFailed, match=f"127.0.0.1:{port}") as caught:
        transport.open_connection("127.0.0.1", port)
    assert caught.value.transient


def test_thirty_commands_at_once_all_succeed(transport: Transport) -> None:
    def run(number: int) -> str:
        return transport.run(["sh", "-c", f"sleep 0.05; echo {number}"], timeout_s=60).stdout

    with ThreadPoolExecutor(30) as threads:
        assert list(threads.map(run, range(30))) == [f"{n}\n" for n in range(30)]


CALLER = """
import sys
from slurm_provider.transport import LocalTransport, SshSettings, SshTransport
settings = eval(sys.argv[1])
transport = SshTransport(settings) if settings else LocalTransport()
sys.exit(transport.call(["sh", "-c", sys.argv[2]], tty=False))
"""


def test_call_uses_this_process_own_streams(
    transport: Transport, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = getattr(transport, "_settings", None)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", CALLER, repr(settings), "cat; echo err >&2; exit 6"],
        input=b"x" * 300_000,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 6, done.stderr
    assert done.stdout == b"x" * 300_000
    assert done.stderr.endswith(b"err\n")


def test_the_weird_arguments_are_not_trivial_to_quote() -> None:
    assert any(shlex.quote(argument) != argument for argument in WEIRD)
