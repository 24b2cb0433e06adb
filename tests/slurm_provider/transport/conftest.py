"""Both transports, and servers to connect to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_provider.transport import LocalTransport, SshSettings, SshTransport, Transport
from tests.slurm_provider.transport.real_sshd import SSHD, USER, Sshd, make_key


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
