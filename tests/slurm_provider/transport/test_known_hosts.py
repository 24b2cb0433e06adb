from __future__ import annotations

import base64
import os
import stat
import subprocess
from pathlib import Path

import pytest

from slurm_provider.transport import HostKeyRejected
from slurm_provider.transport.ssh.known_hosts import (
    HostKey,
    Verdict,
    judge,
    known_types,
    names_of,
    parse,
    verify,
)


def key(text: str, kind: str = "ssh-ed25519") -> HostKey:
    return HostKey(kind, base64.b64encode(text.encode()).decode())


A, B, RSA = key("a"), key("b"), key("r", "ssh-rsa")


def line(patterns: str, host_key: HostKey, marker: str = "") -> str:
    return f"{marker} {patterns} {host_key.kind} {host_key.base64} comment".strip() + "\n"


def verdict(text: str, host: str, port: int, offered: HostKey) -> Verdict:
    return judge(parse(text, "f"), names_of(host, port), offered)


@pytest.mark.parametrize(
    ("text", "host", "port", "offered", "expected"),
    [
        ("", "edge", 22, A, Verdict.UNKNOWN),
        (line("edge", A), "edge", 22, A, Verdict.KNOWN),
        (line("edge", A), "EDGE", 22, A, Verdict.KNOWN),
        (line("edge", A), "edge2", 22, A, Verdict.UNKNOWN),
        (line("edge", A), "edge", 22, B, Verdict.CHANGED),
        (line("edge", A) + line("edge", B), "edge", 22, B, Verdict.KNOWN),
        (line("edge", RSA), "edge", 22, A, Verdict.CHANGED),
        (line("other,edge", A), "edge", 22, A, Verdict.KNOWN),
        (line("*.site.edu", A), "login1.site.edu", 22, A, Verdict.KNOWN),
        (line("*.site.edu", A), "login1.site.edu", 22, B, Verdict.CHANGED),
        (line("*,!edge", A), "edge", 22, A, Verdict.UNKNOWN),
        (line("login?", A), "login7", 22, A, Verdict.KNOWN),
        (line("[edge]:2222", A), "edge", 2222, A, Verdict.KNOWN),
        (line("[edge]:2222", A), "edge", 2222, B, Verdict.CHANGED),
        (line("[edge]:2222", A), "edge", 22, A, Verdict.UNKNOWN),
        (line("edge", A), "edge", 2222, A, Verdict.KNOWN),
        (line("edge", A), "edge", 2222, B, Verdict.UNKNOWN),
        (line("edge", A, "@revoked"), "edge", 22, A, Verdict.REVOKED),
        (line("*", A, "@revoked") + line("edge", A), "edge", 22, A, Verdict.REVOKED),
        (line("*", A, "@cert-authority"), "edge", 22, A, Verdict.UNKNOWN),
        ("# edge ssh-ed25519 AAAA\n\nrubbish\n" + line("edge", A), "edge", 22, A, Verdict.KNOWN),
        ("|1|not-base64|x ssh-ed25519 AAAA\n", "edge", 22, A, Verdict.UNKNOWN),
    ],
)
def test_a_key_is_judged_as_openssh_would(
    text: str, host: str, port: int, offered: HostKey, expected: Verdict
) -> None:
    assert verdict(text, host, port, offered) is expected


def test_names_hashed_by_ssh_keygen_are_recognized(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("[edge]:2222", A))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True)
    assert "edge" not in path.read_text()
    assert verdict(path.read_text(), "edge", 2222, A) is Verdict.KNOWN
    assert verdict(path.read_text(), "edge", 2222, B) is Verdict.CHANGED


def test_the_known_types_are_those_to_ask_for() -> None:
    known = parse(line("edge", RSA) + line("edge", A, "@revoked") + line("x", B), "f")
    assert known_types(known, ("edge",)) == ["ssh-rsa"]


def test_the_fingerprint_is_the_one_ssh_keygen_shows(tmp_path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "k")]
    subprocess.run(command, check=True)
    kind, text = (tmp_path / "k.pub").read_text().split()[:2]
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(tmp_path / "k.pub")], capture_output=True, text=True
    ).stdout
    assert HostKey(kind, text).fingerprint == shown.split()[1]


def test_accept_new_remembers_an_unknown_host_and_then_holds_it_to_its_key(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "known_hosts")
    verify(A, "edge", 2222, (path,), "accept-new")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    verify(A, "edge", 2222, (path,), "strict")
    with pytest.raises(HostKeyRejected, match=r"CHANGED.*:1 says otherwise.*ssh-keygen -R"):
        verify(B, "edge", 2222, (path,), "accept-new")


def test_an_unknown_host_is_refused_with_its_fingerprint_and_what_to_do(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    with pytest.raises(HostKeyRejected) as caught:
        verify(A, "edge", 2222, (path,), "strict")
    assert A.fingerprint in str(caught.value)
    assert f"ssh-keyscan -p 2222 edge >> {path}" in str(caught.value)
    assert not os.path.exists(path)


def test_a_revoked_key_is_refused_whatever_the_policy(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("*", A, "@revoked"))
    with pytest.raises(HostKeyRejected, match="revoked"):
        verify(A, "edge", 22, (str(path),), "accept-new")


def test_off_verifies_nothing(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(line("edge", A))
    verify(B, "edge", 22, (str(path),), "off")


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostKeyRejected, match=str(tmp_path)):
        verify(A, "edge", 22, (str(tmp_path),), "strict")
