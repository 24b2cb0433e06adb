"""Certificates: what they vouch for, who can read them, and that no node runs without."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from slurm_provider.agent import earlier_ray, shim
from slurm_provider.agent.node import Node
from slurm_provider.agent.tls import (
    TlsError,
    check_environment,
    credentials,
    new_authority,
    tls_env,
)
from slurm_provider.cluster_paths import ClusterPaths
from slurm_provider.errors import ConfigError
from slurm_provider.requirements import check_ray_version

AUTHORITY = new_authority()


@pytest.fixture(autouse=True)
def any_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests make certificates with the oldest supported Ray, too."""
    monkeypatch.setattr(earlier_ray, "is_installed", lambda: False)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    path = tmp_path / "tls-authority.pem"
    path.write_bytes(AUTHORITY)
    return path


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "node.crt").read_bytes())


def test_a_nodes_certificate_names_every_address_it_is_reached_at(
    authority: Path, tmp_path: Path
) -> None:
    env = tls_env(str(authority), str(tmp_path / "tls"), "10.1.2.3")

    names = certificate(tmp_path / "tls").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    addresses = {str(address) for address in names.value.get_values_for_type(x509.IPAddress)}
    assert {"10.1.2.3", "127.0.0.1"} <= addresses
    hosts = names.value.get_values_for_type(x509.DNSName)
    assert set(hosts) == {"localhost", socket.gethostname()}
    assert env == {
        "RAY_USE_TLS": "1",
        "RAY_TLS_CA_CERT": f"{tmp_path}/tls/ca.crt",
        "RAY_TLS_SERVER_CERT": f"{tmp_path}/tls/node.crt",
        "RAY_TLS_SERVER_KEY": f"{tmp_path}/tls/node.key",
    }


def test_only_the_owner_reads_the_files(authority: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        tls_env(str(authority), str(tmp_path / "tls"), "10.1.2.3")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    files = sorted((tmp_path / "tls").iterdir())
    assert [path.name for path in files] == ["ca.crt", "node.crt", "node.key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_the_authoritys_key_stays_in_its_file(authority: Path, tmp_path: Path) -> None:
    tls_env(str(authority), str(tmp_path / "tls"), "10.1.2.3")
    key = AUTHORITY.partition(b"-----BEGIN CERTIFICATE-----")[0].strip()
    assert b"PRIVATE KEY" in key
    for path in (tmp_path / "tls").iterdir():
        assert key not in path.read_bytes()


def test_certificates_outlive_a_cluster_of_years_and_bear_a_clock_that_is_late() -> None:
    made = credentials(AUTHORITY, ["10.1.2.3"])
    for name in ("ca.crt", "node.crt"):
        found = x509.load_pem_x509_certificate(made[name])
        now = datetime.now(timezone.utc)
        assert found.not_valid_before_utc < now - timedelta(hours=12)
        assert found.not_valid_after_utc > now + timedelta(days=2 * 365)


@pytest.mark.parametrize(
    ("client", "address", "answer"),
    [
        ("own", "10.1.2.3", "welcome"),
        ("own", "10.9.9.9", "IP address mismatch"),
        ("none", "10.1.2.3", "alert"),
        ("foreign", "10.1.2.3", "alert"),
    ],
)
def test_both_sides_ask_for_a_certificate_of_this_cluster(
    tmp_path: Path, client: str, address: str, answer: str
) -> None:
    """As Ray sets up its connections, by Python's own TLS."""
    written = {"own": AUTHORITY, "foreign": new_authority()}
    for who, signed_by in written.items():
        (tmp_path / who).mkdir()
        for name, content in credentials(signed_by, ["10.1.2.3"]).items():
            (tmp_path / who / name).write_bytes(content)
    server = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "own" / "ca.crt")
    )
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(tmp_path / "own" / "node.crt", tmp_path / "own" / "node.key")
    context = ssl.create_default_context(cafile=str(tmp_path / "own" / "ca.crt"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if client != "none":
        context.load_cert_chain(tmp_path / client / "node.crt", tmp_path / client / "node.key")
    left, right = socket.socketpair()
    thread = threading.Thread(target=_welcome, args=(server, left), daemon=True)
    thread.start()
    right.settimeout(10)
    try:
        with context.wrap_socket(right, server_hostname=address) as wrapped:
            said = wrapped.recv(100).decode()
    except ssl.SSLError as error:
        said = str(error)
    thread.join(10)
    assert answer in said


def _welcome(server: ssl.SSLContext, connection: socket.socket) -> None:
    try:
        with server.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.sendall(b"welcome")
    except (ssl.SSLError, OSError):
        connection.close()


def node(folder: Path, *, tls: bool = True) -> Any:
    """As much of a node as makes its certificate."""
    ray = Path(sys.prefix) / "bin" / "ray"
    return SimpleNamespace(
        uses_tls=tls,
        plan=SimpleNamespace(temp_dir=str(folder / "scratch"), address="10.1.2.3"),
        paths=ClusterPaths(str(folder)),
        env={"RAY_SLURM_RAY": str(ray), "RAY_USE_TLS": "0"},
    )


def test_a_node_gets_a_new_certificate_for_each_start_of_ray(
    authority: Path, tmp_path: Path
) -> None:
    found = node(tmp_path)
    serials = set()
    for _ in range(2):
        Node.make_certificate(found)
        serials.add(certificate(tmp_path / "scratch" / "tls").serial_number)
    assert len(serials) == 2
    assert found.env["RAY_USE_TLS"] == "1"


def test_without_tls_a_node_makes_nothing(tmp_path: Path) -> None:
    found = node(tmp_path, tls=False)
    Node.make_certificate(found)
    assert list(tmp_path.iterdir()) == []
    assert found.env["RAY_USE_TLS"] == "0"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "tls-authority.pem: No such file or directory"),
        (b"", "tls-authority.pem is damaged"),
        (AUTHORITY[: len(AUTHORITY) // 2], "tls-authority.pem is damaged"),
    ],
    ids=["missing", "empty", "half"],
)
def test_a_node_without_an_authority_does_not_start_and_says_why_in_one_line(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "tls-authority.pem").write_bytes(content)
    with pytest.raises(TlsError) as refused:
        Node.make_certificate(node(tmp_path))
    assert words in str(refused.value)
    assert "ray up" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_an_environment_without_cryptography_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(TlsError, match="needs the Python package cryptography") as refused:
        check_environment(str(Path(sys.prefix) / "bin" / "ray"))
    assert len(str(refused.value).splitlines()) == 1


def test_a_ray_of_another_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="`ray` and `python3` of one environment"):
        check_environment(str(tmp_path / "bin" / "ray"))


def test_an_earlier_ray_is_refused_as_its_token_could_still_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.__version__", "2.54.1")
    check_ray_version()
    with pytest.raises(ConfigError, match=r"provider.tls needs Ray 2.55, and this is Ray 2.54.1"):
        check_ray_version(tls=True)
    monkeypatch.setattr(earlier_ray, "is_installed", lambda: True)
    with pytest.raises(TlsError, match=r"provider.tls needs Ray 2.55"):
        check_environment(str(Path(sys.prefix) / "bin" / "ray"))


def test_a_workers_ray_announces_no_port_of_its_job_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray._private import ray_constants, services
    from ray.scripts import scripts

    started: dict[str, list[str]] = {}
    monkeypatch.setattr(
        services, "start_ray_process", lambda command, kind, **_: started.update({kind: command})
    )
    monkeypatch.setattr(sys, "argv", [])
    ray = os.path.join(sys.prefix, "bin", "ray")
    for name, value in {"USE_TLS": "1", "SLURM_NODE": "/n", "SLURM_RAY": ray}.items():
        monkeypatch.setenv(f"RAY_{name}", value)

    def start(*_: Any) -> None:
        for kind in (ray_constants.PROCESS_TYPE_RAYLET, ray_constants.PROCESS_TYPE_MONITOR):
            services.start_ray_process([kind, "--x"], kind)

    monkeypatch.setattr(scripts, "main", start)

    assert shim.start_worker(["--address=x:1"]) == 0

    raylet = ray_constants.PROCESS_TYPE_RAYLET
    assert started[raylet] == [raylet, "--x", "--dashboard_agent_listen_port=-1"]
    assert started[ray_constants.PROCESS_TYPE_MONITOR][-1] == "--x"
    assert sys.argv[1:] == ["start", "--address=x:1"]
