from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sandbox import SandboxError, packages


def test_packages_of_missing_programs_are_named_once_and_sorted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {"slurmd", "sbatch", "ip", "nsenter", "useradd", "hostname", "ssh-keygen", "sshd"}
    monkeypatch.setattr(shutil, "which", lambda name, path: name if name in there else None)
    assert packages.missing_packages() == [
        "mariadb-client",
        "mariadb-server",
        "munge",
        "slurmctld",
        "slurmdbd",
    ]


def test_without_apt_the_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(SandboxError, match=r"munge.*no apt-get"):
        packages.install(["munge"], print)


def test_an_existing_policy_is_put_back(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("the machine's own")
    with packages.no_services_started(policy):
        assert "exit 101" in policy.read_text()
    assert policy.read_text() == "the machine's own"
    assert list(tmp_path.iterdir()) == [policy]


def test_no_policy_is_left_where_there_was_none(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        packages.no_services_started(tmp_path / "policy-rc.d"),
    ):
        raise RuntimeError("apt failed")
    assert list(tmp_path.iterdir()) == []
