"""Logins at the edge node that need more than a key file."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from dagster_glue import SSHConnectionResource
from slurm_provider.transport import AuthenticationFailed
from tests.dagster_glue.edge import ssh_section
from tests.sandbox_fixture import RunningSandbox

pytestmark = pytest.mark.sandbox


def test_a_password_from_a_variable_opens_openssh_s_door(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = Path(sandbox.info["password_file"]).read_text().strip()
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    how = {key: value for key, value in ssh_section(sandbox).items() if key != "key_path"}
    ssh = SSHConnectionResource(**how, password=dg.EnvVar("EDGE_PASSWORD"), config_path="")

    monkeypatch.setenv("EDGE_PASSWORD", password)
    transport = ssh.transport()
    try:
        assert transport.run(["id", "-un"], timeout_s=30).stdout == "user1\n"
    finally:
        transport.close()

    monkeypatch.setenv("EDGE_PASSWORD", password + "x")
    transport = ssh.transport()
    try:
        with pytest.raises(AuthenticationFailed, match="Tried: ") as caught:
            transport.run(["id", "-un"], timeout_s=30)
    finally:
        transport.close()
    assert password not in str(caught.value)
