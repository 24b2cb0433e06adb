from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from slurm_provider.transport import ConnectFailed, SshSettings
from slurm_provider.transport.ssh.endpoint import expand_includes, resolve
from slurm_provider.transport.ssh_settings import parse_jump


@pytest.fixture
def config(private_home: Path) -> Path:
    return private_home / ".ssh" / "config"


def test_without_a_configuration_the_defaults_are_openssh_s(private_home: Path) -> None:
    endpoint = resolve(SshSettings("edge"))
    assert (endpoint.host, endpoint.port, endpoint.user) == ("edge", 22, getpass.getuser())
    assert endpoint.via is None
    assert endpoint.key_files[0] == f"{private_home}/.ssh/id_ed25519"
    assert endpoint.known_hosts[0] == f"{private_home}/.ssh/known_hosts"
    assert "/etc/ssh/ssh_known_hosts" in endpoint.known_hosts


def test_the_configuration_fills_in_what_the_settings_leave_open(
    config: Path, private_home: Path
) -> None:
    config.write_text(
        "Host edge\n HostName %h.site.edu\n Port 2222\n User alice\n IdentityFile ~/.ssh/site\n"
        " IdentitiesOnly yes\n UserKnownHostsFile ~/.ssh/site_hosts\n HostKeyAlias cluster\n"
    )
    endpoint = resolve(SshSettings("edge"))
    assert (endpoint.host, endpoint.port, endpoint.user) == ("edge.site.edu", 2222, "alice")
    assert endpoint.key_files == (f"{private_home}/.ssh/site",)
    assert endpoint.only_these_keys
    assert endpoint.known_hosts[0] == f"{private_home}/.ssh/site_hosts"
    assert endpoint.host_key_alias == "cluster"


def test_explicit_settings_win_over_the_configuration(config: Path) -> None:
    config.write_text("Host edge\n Port 2222\n User alice\n ProxyJump far\n")
    endpoint = resolve(SshSettings("edge", user="bob", port=23, known_hosts="/k", jump_host="none"))
    assert (endpoint.user, endpoint.port, endpoint.known_hosts) == ("bob", 23, ("/k",))
    assert endpoint.via is None


def test_included_files_count_and_the_block_goes_on_after_them(private_home: Path) -> None:
    folder = private_home / ".ssh"
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "site").write_text("Host other\n Port 1\n")
    (folder / "config").write_text("Host edge\n Include conf.d/*\n Port 2222\nHost *\n User all\n")
    endpoint = resolve(SshSettings("edge"))
    assert (endpoint.port, endpoint.user) == (2222, "all")
    assert resolve(SshSettings("other")).port == 1


def test_a_file_that_includes_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "loop").write_text("Include loop\nUser x\n")
    assert "User x" in expand_includes("Include loop", str(tmp_path))


def test_jump_hosts_are_taken_from_the_last_to_the_first() -> None:
    settings = SshSettings("edge", password="secret", jump_host="a@one:1,two")
    last = resolve(settings).via
    assert last is not None
    assert (last.user, last.host, last.port, last.password) == (None, "two", None, None)
    first = resolve(last).via
    assert first is not None
    assert (first.user, first.host, first.port) == ("a", "one", 1)
    assert resolve(first).via is None


def test_the_configured_proxy_jump_is_used_but_not_for_the_jump_host_itself(config: Path) -> None:
    config.write_text("Host *\n ProxyJump gate\n")
    via = resolve(SshSettings("edge")).via
    assert via is not None
    assert via.host == "gate"
    assert resolve(via).via is None


def test_a_configured_proxy_command_is_expanded(config: Path) -> None:
    config.write_text("Host edge\n ProxyCommand nc %h %p %r\n")
    assert resolve(SshSettings("edge", user="me", port=5)).proxy_command == "nc edge 5 me"


def test_a_broken_configuration_is_named(config: Path) -> None:
    config.write_text("Host edge\n Port\n")
    with pytest.raises(ConnectFailed, match=f"{config} cannot be used for 'edge'"):
        resolve(SshSettings("edge"))


def test_no_configuration_is_read_when_none_is_wanted(config: Path) -> None:
    config.write_text("Host edge\n Port 2222\n")
    assert resolve(SshSettings("edge", config_path=None)).port == 22


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gate", (None, "gate", None)),
        ("me@gate:2222", ("me", "gate", 2222)),
        ("me@site.edu@gate", ("me@site.edu", "gate", None)),
        ("[::1]:22", (None, "::1", 22)),
        ("fe80::1", (None, "fe80::1", None)),
        ("ssh://me@gate:22/", ("me", "gate", 22)),
    ],
)
def test_a_jump_host_is_understood(text: str, expected: tuple[str | None, str, int | None]) -> None:
    assert parse_jump(text) == expected


@pytest.mark.parametrize("text", ["me@", "@gate", "gate:ssh", ":22"])
def test_a_jump_host_that_cannot_be_understood_is_quoted(text: str) -> None:
    with pytest.raises(ConnectFailed, match="form user@host:port"):
        resolve(SshSettings("edge", jump_host=text))


@pytest.mark.parametrize(
    "changes",
    [
        {"host": ""},
        {"host": "-oProxyCommand=x"},
        {"host": "a b"},
        {"user": "a\nProxyCommand x"},
        {"port": 0},
        {"port": 70000},
        {"host_key_policy": "no"},
        {"connect_timeout_s": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SshSettings(**{"host": "edge", **changes})  # type: ignore[arg-type]


def test_the_password_is_in_no_text_of_the_settings() -> None:
    settings = SshSettings("edge", password="open sesame")
    assert "sesame" not in repr(settings) + str(settings)
