"""A real sshd on a high port of the loopback, with keys of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from slurm_provider.transport import LocalTransport, SshSettings, SshTransport, Transport

SSHD = "/usr/sbin/sshd"
USER = pwd.getpwuid(os.getuid()).pw_name


def eventually(condition: Callable[[], object], deadline_s: float = 10.0) -> None:
    """Poll until the condition holds; fail after the deadline."""
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> Path:
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@dataclass
class Sshd:
    """A server process that is ended by its pid."""

    folder: Path
    authorized_key: Path
    extra_config: str = ""
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host_key(self) -> Path:
        return self.folder / "host_key"

    @property
    def known_hosts_line(self) -> str:
        kind, key = self.host_key.with_suffix(".pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        if not self.host_key.exists():
            make_key(self.host_key)
        authorized = self.folder / "authorized_keys"
        shutil.copy(f"{self.authorized_key}.pub", authorized)
        self.port = self.port or free_port()
        config = self.folder / "sshd_config"
        config.write_text(
            f"{self.extra_config}\n"
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.host_key}\n"
            f"AuthorizedKeysFile {authorized}\nPidFile none\nUsePAM no\nStrictModes no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin prohibit-password\nMaxStartups 200\nSubsystem sftp internal-sftp\n"
        )
        with open(self.folder / "sshd.log", "ab") as log:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers)

    def stop(self) -> None:
        if self.process is not None:
            for pid in self.connections():
                os.kill(pid, signal.SIGKILL)
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def connections(self) -> list[int]:
        """The pids of the processes that serve one connection each."""
        assert self.process is not None
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in Path(path).read_text().split()]

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    return {
        "good": make_key(folder / "good"),
        "wrong": make_key(folder / "wrong"),
        "encrypted": make_key(folder / "encrypted", passphrase="open sesame"),
    }


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, Path]) -> Iterator[Sshd]:
    if not os.access(SSHD, os.X_OK):
        pytest.skip("openssh-server is not installed")
    server = Sshd(tmp_path_factory.mktemp("sshd"), keys["good"])
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def own_sshd(tmp_path: Path, keys: dict[str, Path]) -> Iterator[Callable[[str], Sshd]]:
    """Starts servers that a test may mistreat, with extra configuration lines."""
    if not os.access(SSHD, os.X_OK):
        pytest.skip("openssh-server is not installed")
    started: list[Sshd] = []

    def start(extra_config: str = "") -> Sshd:
        server = Sshd(tmp_path / f"sshd{len(started)}", keys["good"], extra_config)
        started.append(server)
        server.start()
        return server

    try:
        yield start
    finally:
        for server in started:
            server.stop()


@pytest.fixture(autouse=True)
def private_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads the keys, agent or configuration of whoever runs it."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture
def settings_for(tmp_path: Path, keys: dict[str, Path]) -> Callable[..., SshSettings]:
    """Settings that reach a server and know its host key, changed as asked."""

    def build(server: Sshd, **changes: object) -> SshSettings:
        known_hosts = tmp_path / f"known_hosts_{server.port}"
        known_hosts.write_text(server.known_hosts_line)
        values: dict[str, object] = {
            "host": "127.0.0.1",
            "user": USER,
            "port": server.port,
            "key_path": str(keys["good"]),
            "known_hosts": str(known_hosts),
            **changes,
        }
        return SshSettings(**values)  # type: ignore[arg-type]

    return build


@pytest.fixture
def connect() -> Iterator[Callable[[SshSettings], SshTransport]]:
    """Makes SSH transports and closes them at the end."""
    made: list[SshTransport] = []

    def make(settings: SshSettings) -> SshTransport:
        made.append(SshTransport(settings))
        return made[-1]

    try:
        yield make
    finally:
        for transport in made:
            transport.close()


@pytest.fixture
def ssh(
    sshd: Sshd,
    settings_for: Callable[..., SshSettings],
    connect: Callable[[SshSettings], SshTransport],
) -> SshTransport:
    return connect(settings_for(sshd))


@pytest.fixture(params=["local", "ssh"])
def transport(request: pytest.FixtureRequest) -> Transport:
    """Each of the two implementations in turn."""
    if request.param == "local":
        return LocalTransport()
    transport: SshTransport = request.getfixturevalue("ssh")
    return transport
