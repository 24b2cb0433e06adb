"""Connecting to, losing and sharing connections with a real sshd."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slurm_provider.transport import (
    AuthenticationFailed,
    ConnectFailed,
    HostKeyRejected,
    SshSettings,
    SshTransport,
    TransportError,
    Tunnel,
)
from slurm_provider.transport.ssh import connection as pool
from tests.slurm_provider.transport.real_sshd import (
    USER,
    Sshd,
    eventually,
    free_port,
    make_key,
    servers,
)
from tests.slurm_provider.transport.test_tunnel import RELAY

SettingsFor = Callable[..., SshSettings]
Connect = Callable[[SshSettings], SshTransport]
OwnSshd = Callable[..., Sshd]


def greets(transport: SshTransport) -> bool:
    return transport.run(["echo", "hello"], timeout_s=20).stdout == "hello\n"


# -- host keys -----------------------------------------------------------------------------


def test_an_unknown_host_is_refused_before_anything_is_sent(
    sshd: Sshd, settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    transport = connect(settings_for(sshd, known_hosts=str(tmp_path / "none"), password="secret"))
    with pytest.raises(HostKeyRejected) as caught:
        transport.run(["true"], timeout_s=5)
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(sshd.host_key)], capture_output=True, text=True
    ).stdout.split()[1]
    assert shown in str(caught.value)
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1 >> {tmp_path}/none" in str(caught.value)
    assert not caught.value.transient


def test_a_changed_host_key_is_refused_and_called_changed(
    sshd: Sshd, settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    settings = settings_for(sshd)
    other = make_key(tmp_path / "other").with_suffix(".pub").read_text()
    Path(settings.known_hosts or "").write_text(f"[127.0.0.1]:{sshd.port} {other}")
    with pytest.raises(HostKeyRejected, match=r"has CHANGED.*known_hosts_\d+:1"):
        connect(settings).run(["true"], timeout_s=5)


def test_accept_new_learns_the_key_and_then_insists_on_it(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    server = own_sshd()
    settings = settings_for(
        server, known_hosts=str(tmp_path / "learnt"), host_key_policy="accept-new"
    )
    transport = connect(settings)
    assert greets(transport)
    assert (tmp_path / "learnt").read_text() == server.known_hosts_line
    transport.close()
    server.stop()
    for path in (server.host_key, server.host_key.with_suffix(".pub")):
        path.unlink()
    server.start()
    with pytest.raises(HostKeyRejected, match="CHANGED"):
        transport.run(["true"], timeout_s=5)


def test_the_key_type_that_is_known_is_the_one_asked_for(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    rsa = make_key(tmp_path / "rsa", kind="rsa")
    server = own_sshd(f"HostKey {rsa}")
    settings = settings_for(server)
    public = " ".join(rsa.with_suffix(".pub").read_text().split()[:2])
    Path(settings.known_hosts or "").write_text(f"[127.0.0.1]:{server.port} {public}\n")
    assert greets(connect(settings))


# -- reaching and logging in ---------------------------------------------------------------


def test_a_key_that_is_not_authorized_is_named(
    sshd: Sshd, settings_for: SettingsFor, connect: Connect, keys: dict[str, Path]
) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        connect(settings_for(sshd, key_path=str(keys["wrong"]))).run(["true"], timeout_s=5)
    assert f"{USER}@127.0.0.1:{sshd.port} refused the login" in str(caught.value)
    assert f"Tried: {keys['wrong']}. It accepts: publickey. Next: put your" in str(caught.value)


def test_a_missing_key_file_is_named(
    sshd: Sshd, settings_for: SettingsFor, connect: Connect
) -> None:
    with pytest.raises(AuthenticationFailed, match=r"/no/key cannot be read \(No such file"):
        connect(settings_for(sshd, key_path="/no/key")).run(["true"], timeout_s=5)


def test_a_key_file_that_is_no_key_is_named(
    sshd: Sshd, settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "rubbish").write_text("hello")
    with pytest.raises(AuthenticationFailed, match="rubbish cannot be loaded: it has to be"):
        connect(settings_for(sshd, key_path=str(tmp_path / "rubbish"))).run(["true"], timeout_s=5)


def test_a_key_file_that_may_not_be_read_is_named(
    sshd: Sshd, settings_for: SettingsFor, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    real_open = builtins.open

    def refuse(path: object, *rest: object, **options: object) -> object:
        if path == "/secret/key":
            raise PermissionError(13, "Permission denied")
        return real_open(path, *rest, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", refuse)  # root may read every real file
    with pytest.raises(AuthenticationFailed, match=r"/secret/key .* \(Permission denied\): check"):
        connect(settings_for(sshd, key_path="/secret/key")).run(["true"], timeout_s=5)


def test_an_encrypted_key_opens_with_its_passphrase_only(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect, keys: dict[str, Path]
) -> None:
    server = own_sshd()
    (server.folder / "authorized_keys").write_text(
        keys["encrypted"].with_suffix(".pub").read_text()
    )
    path = str(keys["encrypted"])
    with pytest.raises(AuthenticationFailed, match=r"is encrypted: unlock it by ssh-add"):
        connect(settings_for(server, key_path=path)).run(["true"], timeout_s=5)
    with pytest.raises(AuthenticationFailed, match="cannot be loaded with the passphrase given"):
        connect(settings_for(server, key_path=path, password="no")).run(["true"], timeout_s=5)
    assert greets(connect(settings_for(server, key_path=path, password="open sesame")))


def test_the_agent_s_keys_are_used(
    sshd: Sshd,
    settings_for: SettingsFor,
    connect: Connect,
    keys: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: os.path.exists(address))
        monkeypatch.setenv("SSH_AUTH_SOCK", address)
        for name in ("wrong", "good"):
            subprocess.run(["ssh-add", "-q", str(keys[name])], check=True)
        assert greets(connect(settings_for(sshd, key_path=None)))
    finally:
        agent.terminate()
        agent.wait(10)


def test_keys_and_names_of_the_ssh_configuration_are_used(
    sshd: Sshd,
    settings_for: SettingsFor,
    connect: Connect,
    keys: dict[str, Path],
    private_home: Path,
) -> None:
    known_hosts = settings_for(sshd).known_hosts
    (private_home / ".ssh" / "config").write_text(
        f"Host cluster\n HostName 127.0.0.1\n Port {sshd.port}\n User {USER}\n"
        f" IdentityFile {keys['good']}\n UserKnownHostsFile {known_hosts}\n"
    )
    transport = connect(SshSettings("cluster"))
    assert greets(transport)
    assert transport.label == "cluster"


def test_a_proxy_command_of_the_ssh_configuration_is_used(
    sshd: Sshd, settings_for: SettingsFor, connect: Connect, private_home: Path
) -> None:
    copy = (
        "import socket, sys, threading\n"
        f"c = socket.create_connection(('127.0.0.1', {sshd.port}))\n"
        "def up():\n"
        "    while d := sys.stdin.buffer.raw.read(65536): c.sendall(d)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while d := c.recv(65536):\n"
        "    sys.stdout.buffer.write(d); sys.stdout.flush()\n"
    )
    (private_home / "copy.py").write_text(copy)
    config = private_home / ".ssh" / "config"
    config.write_text(f"Host *\n ProxyCommand {sys.executable} {private_home}/copy.py\n")
    transport = connect(settings_for(sshd))
    assert greets(transport)
    transport.close()
    config.write_text("Host *\n ProxyCommand echo the gate is closed >&2; exit 1\n")
    with pytest.raises(ConnectFailed, match=r"no SSH handshake .* \(the gate is closed\)"):
        transport.run(["true"], timeout_s=5)


def test_a_host_name_that_does_not_exist_is_named(connect: Connect) -> None:
    with pytest.raises(ConnectFailed, match=r"'no-such-host.invalid' cannot be resolved"):
        connect(SshSettings("no-such-host.invalid")).run(["true"], timeout_s=5)


def test_a_refused_port_is_named(sshd: Sshd, settings_for: SettingsFor, connect: Connect) -> None:
    port = free_port()
    with pytest.raises(ConnectFailed, match=f"port {port} cannot be connected to") as caught:
        connect(settings_for(sshd, port=port)).run(["true"], timeout_s=5)
    assert caught.value.transient


def test_a_server_that_says_nothing_is_given_up(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = SshSettings("127.0.0.1", port=silent.getsockname()[1], connect_timeout_s=0.5)
        with pytest.raises(ConnectFailed, match=r"no SSH handshake within 0.5 s"):
            connect(settings).run(["true"], timeout_s=5)


def test_a_server_that_is_not_ssh_is_told(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:

        def answer() -> None:
            peer, _ = web.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        settings = SshSettings("127.0.0.1", port=web.getsockname()[1], connect_timeout_s=3)
        with pytest.raises(ConnectFailed, match="no SSH handshake"):
            connect(settings).run(["true"], timeout_s=5)


def test_threads_that_wait_for_a_dead_host_share_one_time_out(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = SshSettings("127.0.0.1", port=silent.getsockname()[1], connect_timeout_s=1)
        transport = connect(settings)

        def fails(_: int) -> bool:
            with pytest.raises(ConnectFailed):
                transport.run(["true"], timeout_s=5)
            return True

        begun = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(fails, range(8)))
        assert time.monotonic() - begun < 5


# -- jump hosts ----------------------------------------------------------------------------


def test_several_jump_hosts_lead_to_the_target_each_with_its_key_verified(
    sshd: Sshd, own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    first, second = own_sshd(), own_sshd()
    jumps = ",".join(f"{USER}@127.0.0.1:{server.port}" for server in (first, second))
    settings = settings_for(sshd, jump_host=jumps)
    known_hosts = Path(settings.known_hosts or "")
    known_hosts.write_text(sshd.known_hosts_line + second.known_hosts_line)
    transport = connect(settings)
    with pytest.raises(HostKeyRejected, match=rf"127.0.0.1\]:{first.port} is not a known host"):
        transport.run(["true"], timeout_s=10)
    with known_hosts.open("a") as file:
        file.write(first.known_hosts_line)
    assert greets(transport)
    assert len(first.connections()) == len(second.connections()) == 1
    transport.close()
    eventually(lambda: not first.connections() and not second.connections())


def test_jump_hosts_in_a_circle_are_told(
    sshd: Sshd, settings_for: SettingsFor, connect: Connect, private_home: Path
) -> None:
    (private_home / ".ssh" / "config").write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(ConnectFailed, match=r"form a loop \(a -> b -> a"):
        connect(SshSettings("a")).run(["true"], timeout_s=5)


def test_a_server_that_forbids_forwarding_is_told(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    transport = connect(settings_for(own_sshd("AllowTcpForwarding no")))
    with pytest.raises(ConnectFailed, match="does not forward TCP connections"):
        transport.open_connection("127.0.0.1", 1)
    assert greets(transport)


# -- drops ---------------------------------------------------------------------------------


def test_a_drop_in_the_middle_is_an_error_and_the_next_command_reconnects(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    server = own_sshd()
    transport = connect(settings_for(server))
    failures: list[TransportError] = []

    def run() -> None:
        try:
            transport.run(
                ["sh", "-c", f"echo half; touch {tmp_path}/begun; sleep 30"], timeout_s=30
            )
        except TransportError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually((tmp_path / "begun").exists)
    server.drop_connections()
    thread.join(20)
    assert [failure.transient for failure in failures] == [True]
    assert "dropped while 'sh' ran" in str(failures[0])
    assert "whether it had its effect is unknown" in str(failures[0])
    assert greets(transport)


def test_a_drop_after_the_exit_code_but_before_the_end_of_the_output_is_an_error(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    server = own_sshd()
    transport = connect(settings_for(server))
    failures: list[TransportError] = []

    def run() -> None:
        # The background command holds the output open, so the exit code arrives before its end.
        script = f"echo half; (sleep 30; echo other half) & echo $$ > {tmp_path}/pid; exit 0"
        try:
            transport.run(["sh", "-c", script], timeout_s=30)
        except TransportError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually((tmp_path / "pid").exists)
    eventually(lambda: not Path("/proc", (tmp_path / "pid").read_text().strip()).exists())
    server.drop_connections()
    thread.join(20)
    assert [failure.transient for failure in failures] == [True]


def test_an_idle_connection_that_dropped_is_reopened_unnoticed(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    server = own_sshd()
    transport = connect(settings_for(server))
    transport.write_file(str(tmp_path / "f"), b"1")
    uses: tuple[Callable[[], bool], ...] = (
        lambda: greets(transport),
        lambda: transport.read_file(str(tmp_path / "f")) == b"1",
        lambda: transport.list_dir(str(tmp_path / "home")) == [".ssh"],
    )
    for use in uses:
        server.drop_connections()
        assert use()


def test_a_connection_that_hangs_is_replaced(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    server = own_sshd()
    transport = connect(settings_for(server, connect_timeout_s=1.0))
    assert greets(transport)
    (connection,) = server.connections()
    hanging = servers(connection)
    for pid in hanging:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert greets(transport)
    finally:
        for pid in hanging:
            os.kill(pid, signal.SIGKILL)


def test_a_server_that_went_away_is_told_and_used_again_when_it_is_back(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    server = own_sshd()
    transport = connect(settings_for(server))
    assert greets(transport)
    server.stop()
    with pytest.raises(ConnectFailed) as caught:
        transport.run(["true"], timeout_s=5)
    assert caught.value.transient
    server.start()
    assert greets(transport)


def test_a_stream_whose_connection_dropped_has_no_exit_code(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    server = own_sshd()
    process = connect(settings_for(server)).popen(["sh", "-c", "echo begun; sleep 30"])
    assert process.stdout.read1(100) == b"begun\n"
    server.drop_connections()
    assert process.stdout.read() == b""
    with pytest.raises(TransportError, match="dropped") as caught:
        process.wait(10)
    assert caught.value.transient


def test_a_command_that_a_signal_ended_has_no_exit_code(ssh: SshTransport) -> None:
    with pytest.raises(TransportError, match="ended by a signal"):
        ssh.run(["sh", "-c", "kill -9 $$"], timeout_s=20)


def test_terminating_a_command_shows_as_143(ssh: SshTransport) -> None:
    process = ssh.popen(["sleep", "60"])
    process.terminate()
    assert process.wait(10) == 143


# -- sharing -------------------------------------------------------------------------------


def test_transports_with_equal_settings_share_one_connection_until_the_last_closes(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    server = own_sshd()
    one, two = (connect(settings_for(server)) for _ in range(2))
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda n: greets((one, two)[n % 2]), range(8)))
    assert len(server.connections()) == 1
    one.close()
    one.close()
    assert greets(two)
    assert len(server.connections()) == 1
    two.close()
    eventually(lambda: not server.connections())


def test_any_number_of_transports_with_equal_settings_reach_files(
    sshd: Sshd, settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    transports = [connect(settings_for(sshd)) for _ in range(pool.MAX_SESSIONS + 2)]
    for number, transport in enumerate(transports):  # none is closed in between
        transport.write_file(str(tmp_path / str(number)), b"")
    assert len(transports[0].list_dir(str(tmp_path))) >= len(transports)
    assert greets(transports[0])


def test_a_closed_transport_opens_again_when_used(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    transport = connect(settings_for(own_sshd()))
    assert greets(transport)
    transport.close()
    assert greets(transport)


def test_many_commands_at_once_get_by_on_a_server_that_allows_two_sessions(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect, tmp_path: Path
) -> None:
    server = own_sshd("MaxSessions 2")
    transport = connect(settings_for(server))
    with ThreadPoolExecutor(12) as threads:
        assert all(threads.map(lambda _: greets(transport), range(12)))
    assert len(server.connections()) == 1


def test_when_all_sessions_stay_taken_the_error_says_so(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    transport = connect(settings_for(own_sshd("MaxSessions 1")))
    process = transport.popen(["cat"])
    with pytest.raises(TransportError, match="no free session") as caught:
        transport.run(["true"], timeout_s=0.5)
    assert caught.value.transient
    process.stdin.close()
    assert process.wait(10) == 0
    assert greets(transport)


def test_finished_streams_give_their_sessions_back(ssh: SshTransport) -> None:
    for _ in range(2 * pool.MAX_SESSIONS):
        process = ssh.popen(["true"])
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_forked_child_makes_its_own_connection(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    server = own_sshd()
    transport = connect(settings_for(server))
    assert greets(transport)
    child = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(0 if greets(transport) else 1)
    )
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert greets(transport)


def test_what_a_profile_prints_is_not_taken_for_output(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    server = own_sshd('ForceCommand echo Welcome to the cluster; eval "$SSH_ORIGINAL_COMMAND"')
    transport = connect(settings_for(server))
    assert greets(transport)
    with pytest.raises(TransportError, match=r"SFTP .* garbled"):
        transport.read_file("/etc/hostname")


def test_a_server_without_sftp_is_told(
    own_sshd: OwnSshd, settings_for: SettingsFor, connect: Connect
) -> None:
    server = own_sshd("Subsystem sftp /bin/false")
    with pytest.raises(TransportError, match="offers no SFTP"):
        connect(settings_for(server)).read_file("/etc/hostname")


def test_a_tunnel_runs_over_ssh(ssh: SshTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = str(target.getsockname()[1])
        process = ssh.popen([*RELAY, "127.0.0.1", port])
        with Tunnel(process) as tunnel:
            tunnel.wait_ready(20)
            client = socket.create_connection(("127.0.0.1", tunnel.port))
            peer, _ = target.accept()
            with client, peer:
                client.sendall(b"ping")
                assert peer.recv(10) == b"ping"
                peer.sendall(b"pong")
                assert client.recv(10) == b"pong"
        assert process.wait(10) == 0


def test_no_secret_is_in_any_error_or_log(
    sshd: Sshd, settings_for: SettingsFor, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    transport = connect(settings_for(sshd, key_path=None, password="open sesame"))
    with caplog.at_level(0), pytest.raises(AuthenticationFailed) as caught:
        transport.run(["true"], timeout_s=5)
    assert "sesame" not in f"{caught.value!r} {caplog.text} {transport!r}"
