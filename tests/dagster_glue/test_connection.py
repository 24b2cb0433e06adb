from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import pytest

from dagster_glue import ConfigError, SlurmResource, SSHConnectionResource
from slurm_provider.transport import SshSettings

PREFIX = "TEST_EDGE_"


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(PREFIX + name, value)

    return set_all


def as_a_run_sees_it(ssh: SSHConnectionResource) -> SSHConnectionResource:
    seen: list[SSHConnectionResource] = []

    @dg.asset
    def look(slurm: SlurmResource) -> None:
        assert slurm.ssh is not None
        seen.append(slurm.ssh)

    assert dg.materialize([look], resources={"slurm": SlurmResource(ssh=ssh)}).success
    return seen[0]


@pytest.mark.parametrize("prefix", [PREFIX, PREFIX.rstrip("_")])
def test_a_connection_is_read_from_the_environment_with_and_without_the_last_underscore(
    prefix: str, variables: Callable[..., None]
) -> None:
    variables(
        HOST="edge", USER="user1", PORT="2222", KEY_PATH="~/.ssh/k", JUMP_HOST="a@gate,b:2200",
        KNOWN_HOSTS="/kh", HOST_KEY_POLICY="accept-new", KEEPALIVE_S="7.5", CONFIG_PATH="/cfg",
    )  # fmt: skip
    assert SSHConnectionResource.from_env(prefix=prefix).settings() == SshSettings(
        host="edge",
        user="user1",
        port=2222,
        key_path="~/.ssh/k",
        jump_host="a@gate,b:2200",
        known_hosts="/kh",
        host_key_policy="accept-new",
        keepalive_s=7.5,
        config_path="/cfg",
    )


def test_the_default_prefix_is_that_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_EDGE_NODE_HOST", "edge")
    assert SSHConnectionResource.from_env().host == "edge"


def test_a_missing_host_is_refused_with_the_variable_s_name_once_it_is_needed() -> None:
    ssh = SSHConnectionResource.from_env(prefix="NOT_THERE_")
    in_run = as_a_run_sees_it(ssh.with_otp_callback(lambda prompt: "123456"))
    for lacking in (ssh, in_run):
        with pytest.raises(ConfigError, match="NOT_THERE_HOST is not set"):
            lacking.settings()


def test_a_port_that_is_no_number_is_refused_with_the_variable_s_name(
    variables: Callable[..., None],
) -> None:
    variables(HOST="edge", PORT="ssh")
    with pytest.raises(ConfigError, match=r"TEST_EDGE_PORT: 'ssh' is not a number"):
        SSHConnectionResource.from_env(prefix=PREFIX)


def test_the_password_stays_in_its_variable_until_a_run_needs_it(
    variables: Callable[..., None],
) -> None:
    variables(HOST="edge", PASSWORD="s3cret")
    ssh = SSHConnectionResource.from_env(prefix=PREFIX)
    in_run = as_a_run_sees_it(ssh)
    assert in_run.settings().password == ssh.settings().password == "s3cret"
    shown = [repr(ssh), repr(in_run), repr(in_run.settings()), str(in_run.cluster_section())]
    assert not any("s3cret" in text for text in shown)


def test_a_password_written_into_code_is_refused() -> None:
    with pytest.raises(ConfigError, match="EnvVar") as refusal:
        SSHConnectionResource(host="edge", password="s3cret")
    assert "s3cret" not in str(refusal.value)


def test_a_password_in_a_mapping_of_the_site_is_not_shown() -> None:
    with pytest.raises(ConfigError) as refusal:
        SlurmResource(ssh={"host": "edge", "password": "s3cret"})  # type: ignore[arg-type]
    assert "s3cret" not in str(refusal.value)


def test_the_otp_callback_is_still_there_when_dagster_has_made_the_resource_anew() -> None:
    def answer(prompt: str) -> str:
        return "123456"

    ssh = SSHConnectionResource(host="edge").with_otp_callback(answer)
    assert as_a_run_sees_it(ssh).settings() == ssh.settings()
    assert ssh.settings().otp_callback is answer
    assert SSHConnectionResource(host="edge").settings().otp_callback is None


def test_variables_are_read_outside_of_dagster_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = SSHConnectionResource(host=dg.EnvVar("THE_EDGE"), port=dg.EnvVar.int("THE_PORT"))
    monkeypatch.setenv("THE_EDGE", "edge")
    with pytest.raises(ConfigError, match=r"SSHConnectionResource.port .* THE_PORT"):
        ssh.settings()
    monkeypatch.setenv("THE_PORT", "22x")
    with pytest.raises(ConfigError, match="THE_PORT, which is '22x'"):
        ssh.settings()
    monkeypatch.setenv("THE_PORT", "2222")
    assert (ssh.settings().host, ssh.settings().port) == ("edge", 2222)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"host": "-oProxyCommand=x"}, "not a host name"),
        ({"host": "edge", "port": 0}, "port 0"),
        ({"host": "edge", "host_key_policy": "sloppy"}, "'sloppy' is not one of"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SSHConnectionResource(**values).settings()


def test_unknown_arguments_are_refused_with_the_closest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"no argument 'keypath'; closest: key_path"):
        SSHConnectionResource(host="edge", keypath="x")


def test_host_keys_are_checked_by_default() -> None:
    assert SSHConnectionResource(host="edge").settings().host_key_policy == "strict"
