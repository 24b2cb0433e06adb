"""Logins that sshd cannot be made to ask for without PAM: passwords, questions, two factors."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from paramiko.common import (
    AUTH_FAILED,
    AUTH_PARTIALLY_SUCCESSFUL,
    AUTH_SUCCESSFUL,
    OPEN_SUCCEEDED,
)
from paramiko.server import InteractiveQuery

from slurm_provider.transport import AuthenticationFailed, SshSettings, SshTransport
from tests.sandbox_fixture import wait_for


class FakeServer(paramiko.ServerInterface):
    """Wants the methods of ``needs`` one after the other."""

    def __init__(
        self, needs: list[str], prompts: list[str], answers: list[str], heard: list[str]
    ) -> None:
        self.needs = list(needs)
        self.prompts = prompts
        self.answers = answers
        self.heard = heard

    def check_global_request(self, kind: str, msg: paramiko.Message) -> bool:
        self.heard.append(kind)
        return False

    def get_allowed_auths(self, username: str) -> str:
        return self.needs[0]

    def _result(self, method: str, is_right: bool) -> int:
        if not is_right or self.needs[0] != method:
            return AUTH_FAILED
        if len(self.needs) > 1:
            self.needs.pop(0)
            return AUTH_PARTIALLY_SUCCESSFUL
        return AUTH_SUCCESSFUL

    def check_auth_password(self, username: str, password: str) -> int:
        return self._result("password", password == "open sesame")

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._result("publickey", True)

    def check_auth_interactive(self, username: str, submethods: str) -> InteractiveQuery | int:
        query = InteractiveQuery("Two factors", "")
        for prompt in self.prompts:
            query.add_prompt(prompt, False)
        return query

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        return self._result("keyboard-interactive", responses == self.answers)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        def execute() -> None:
            done = subprocess.run(["sh", "-c", command], capture_output=True)
            channel.sendall(done.stdout)
            channel.send_exit_status(done.returncode)
            channel.close()

        threading.Thread(target=execute, daemon=True).start()
        return True


Serve = Callable[..., SshSettings]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a fake server for one connection and returns settings that reach it."""
    listener = socket.create_server(("127.0.0.1", 0))
    servers: list[paramiko.Transport] = []

    def start(needs: list[str], **settings: object) -> SshSettings:
        prompts = settings.pop("prompts", ["Password: "])
        answers = settings.pop("answers", ["open sesame"])
        heard = settings.pop("heard", [])

        def accept() -> None:
            connection, _ = listener.accept()
            server = paramiko.Transport(connection)
            servers.append(server)
            server.add_server_key(paramiko.RSAKey.generate(2048))
            interface = FakeServer(needs, prompts, answers, heard)  # type: ignore[arg-type]
            server.start_server(threading.Event(), interface)

        threading.Thread(target=accept, daemon=True).start()
        values: dict[str, object] = {
            "host": "127.0.0.1",
            "port": listener.getsockname()[1],
            "user": "alice",
            "host_key_policy": "off",
            **settings,
        }
        return SshSettings(**values)  # type: ignore[arg-type]

    try:
        yield start
    finally:
        for server in servers:
            server.close()
        listener.close()


Connect = Callable[[SshSettings], SshTransport]


def logs_in(transport: SshTransport) -> bool:
    return transport.run(["echo", "in"], timeout_s=20).stdout == "in\n"


def test_a_password_opens_the_door(serve: Serve, connect: Connect) -> None:
    assert logs_in(connect(serve(["password"], password="open sesame")))


def test_a_wrong_password_is_refused_and_not_repeated_in_the_error(
    serve: Serve, connect: Connect
) -> None:
    with pytest.raises(AuthenticationFailed, match=r"Tried: password. It accepts: pass") as caught:
        logs_in(connect(serve(["password"], password="hunter2")))
    assert "hunter2" not in str(caught.value)


def test_nothing_to_log_in_with_is_said(serve: Serve, connect: Connect) -> None:
    with pytest.raises(AuthenticationFailed, match="Tried: nothing, for want of a key or password"):
        logs_in(connect(serve(["password"])))


def test_a_password_also_answers_the_server_s_question_for_it(
    serve: Serve, connect: Connect
) -> None:
    assert logs_in(connect(serve(["keyboard-interactive"], password="open sesame")))


def test_a_one_time_password_is_asked_for_with_the_server_s_words(
    serve: Serve, connect: Connect
) -> None:
    asked: list[str] = []

    def otp(prompt: str) -> str:
        asked.append(prompt)
        return "123456"

    settings = serve(
        ["keyboard-interactive"],
        prompts=["Password: ", "Verification code: "],
        answers=["open sesame", "123456"],
        password="open sesame",
        otp_callback=otp,
    )
    assert logs_in(connect(settings))
    assert asked == [f"alice@127.0.0.1:{settings.port}: Verification code:"]


def test_a_key_and_then_a_one_time_password_are_two_factors(
    serve: Serve, connect: Connect, keys: dict[str, Path]
) -> None:
    settings = serve(
        ["publickey", "keyboard-interactive"],
        prompts=["Code: "],
        answers=["42"],
        key_path=str(keys["good"]),
        otp_callback=lambda _: "42",
    )
    assert logs_in(connect(settings))


def test_a_key_and_then_a_password_are_two_factors(
    serve: Serve, connect: Connect, keys: dict[str, Path]
) -> None:
    settings = serve(["publickey", "password"], key_path=str(keys["good"]), password="open sesame")
    assert logs_in(connect(settings))


def test_a_silent_connection_is_kept_alive(serve: Serve, connect: Connect) -> None:
    heard: list[str] = []
    settings = serve(["password"], password="open sesame", keepalive_s=1.0, heard=heard)
    assert logs_in(connect(settings))
    wait_for(lambda: heard.count("keepalive@lag.net") >= 2)


def test_a_question_that_nobody_answers_is_quoted(serve: Serve, connect: Connect) -> None:
    settings = serve(["keyboard-interactive"], prompts=["Code: "], password="x")
    with pytest.raises(AuthenticationFailed, match=r"the server asks 'Code:'.*otp_callback"):
        logs_in(connect(settings))


def test_an_answer_that_cannot_be_given_is_reported(serve: Serve, connect: Connect) -> None:
    def otp(_: str) -> str:
        raise RuntimeError("no token plugged in")

    settings = serve(["keyboard-interactive"], prompts=["Code: "], otp_callback=otp)
    with pytest.raises(AuthenticationFailed, match="no token plugged in"):
        logs_in(connect(settings))
