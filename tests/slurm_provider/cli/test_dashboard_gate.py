"""Who gets through the gate, and what the dashboard then sees."""

from __future__ import annotations

import contextlib
import errno
import http.client
import re
import socket
import threading
from collections.abc import Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slurm_provider.cli.dashboard_gate import COOKIE, Gate, Target, parse_request
from slurm_provider.transport import TransportError
from tests.stranger import listening

TOKEN = "the-clusters-token"


class Dashboard(ThreadingHTTPServer):
    """Answers like Ray's: with the token everything, and says what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[BaseHTTPRequestHandler] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Dashboard)
        self.server.seen.append(self)
        if self.headers["Connection"] == "Upgrade":
            self._echo()
            return
        is_known = self.headers["Authorization"] == f"Bearer {TOKEN}"
        body = f"page {self.path}".encode()
        self.send_response(200 if is_known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _echo(self) -> None:
        self.send_response(101)
        self.end_headers()
        while data := self.rfile.readline():
            self.wfile.write(data.upper())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    with Dashboard() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def gate(dashboard: Dashboard) -> Iterator[Gate]:
    with contextlib.closing(Gate(lambda: Target(dashboard.server_port, TOKEN))) as gate:
        yield gate


def ask(gate: Gate, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=10)
    with contextlib.closing(connection):
        connection.request(
            "GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode()


def opened(gate: Gate) -> tuple[str, str]:
    """Use the link; the folder that it leads to, and the cookie."""
    status, headers, page = ask(gate, gate.link.removeprefix(f"http://127.0.0.1:{gate.port}"))
    folder = re.search(r"url=(/[^/]+/)", page)
    assert status == 200 and folder
    cookie, _, attributes = headers["Set-Cookie"].partition("; ")
    assert attributes == f"Path={folder[1]}; HttpOnly; SameSite=Strict"
    return folder[1], cookie


def test_a_link_opens_one_browser_and_then_another_one_is_there(gate: Gate) -> None:
    link = gate.link
    opened(gate)
    assert ask(gate, link[link.rindex("/") :])[0] == 403
    assert gate.link != link
    opened(gate)


def test_what_comes_with_the_cookie_goes_on_with_the_token(
    gate: Gate, dashboard: Dashboard
) -> None:
    folder, cookie = opened(gate)
    status, _, text = ask(gate, f"{folder}api/jobs/?a=b", Cookie=f"other=1; {cookie}")
    assert (status, text) == (200, "page /api/jobs/?a=b")
    assert dashboard.seen[0].headers["Cookie"] is None


def test_neither_the_token_nor_the_session_is_in_a_link(gate: Gate) -> None:
    link = gate.link
    folder, cookie = opened(gate)
    assert not {TOKEN, folder.strip("/"), cookie.partition("=")[2]} & set(link.split("/"))


@pytest.mark.parametrize("how", ["no cookie", "a wrong cookie", "another path", "another's page"])
def test_everybody_else_is_refused_and_asks_the_dashboard_nothing(
    gate: Gate, dashboard: Dashboard, how: str
) -> None:
    folder, cookie = opened(gate)
    path, headers = {
        "no cookie": (folder, {}),
        "a wrong cookie": (folder, {"Cookie": f"{COOKIE}=x"}),
        "another path": ("/api/jobs/", {"Cookie": cookie}),
        "another's page": (folder, {"Cookie": cookie, "Origin": "http://127.0.0.1:1"}),
    }[how]
    status, _, text = ask(gate, path, **headers)
    assert (status, "This link was used already" in text) == (403, True)
    assert dashboard.seen == []


def test_a_page_of_the_dashboard_itself_may_ask(gate: Gate) -> None:
    folder, cookie = opened(gate)
    assert ask(gate, folder, Cookie=cookie, Origin=f"http://127.0.0.1:{gate.port}")[0] == 200


def test_a_browsers_own_authorization_does_not_get_in_the_tokens_way(gate: Gate) -> None:
    folder, cookie = opened(gate)
    assert ask(gate, folder, Cookie=cookie, X_Ray_Authorization="Bearer wrong",
               Authorization="Bearer wrong")[0] == 200  # fmt: skip


def test_a_websocket_goes_through_in_both_directions(gate: Gate) -> None:
    folder, cookie = opened(gate)
    with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as browser:
        browser.sendall(
            f"GET {folder}logs HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n"
            f"Upgrade: websocket\r\nCookie: {cookie}\r\n\r\n".encode()
        )
        answer = browser.makefile("rb")
        assert b" 101 " in answer.readline()
        while answer.readline() != b"\r\n":
            pass
        for word in (b"one\n", b"two\n"):
            browser.sendall(word)
            assert answer.readline() == word.upper()


def test_while_the_way_to_the_cluster_is_closed_the_answer_says_so() -> None:
    with contextlib.closing(Gate(lambda: None)) as gate:
        folder, cookie = opened(gate)
        assert ask(gate, folder, Cookie=cookie)[0] == 503


def test_a_taken_port_is_one_sentence(gate: Gate) -> None:
    with pytest.raises(TransportError, match=f"cannot listen on 127.0.0.1:{gate.port}"):
        Gate(lambda: None, gate.port)


def test_a_closed_gate_listens_no_more(dashboard: Dashboard) -> None:
    gate = Gate(lambda: Target(dashboard.server_port, TOKEN))
    gate.close()
    gate.close()
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", gate.port)) != 0


def test_closing_the_gate_under_a_browser_is_quiet(
    dashboard: Dashboard, capfd: pytest.CaptureFixture[str]
) -> None:
    gate = Gate(lambda: Target(dashboard.server_port, TOKEN))
    with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as browser:
        browser.sendall(b"GET / HT")
        opened(gate)  # so the gate has seen the other connection, too
        gate.close()
        assert browser.recv(1) == b""
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "head",
    ["", "GET /\r\n\r\n", "GET http://x/ HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\n Folded: x\r\n\r\n"],
)
def test_what_is_no_request_is_refused(head: str) -> None:
    with pytest.raises(ValueError):
        parse_request(head.encode())


def test_another_user_who_listens_where_the_dashboard_was_sees_no_token(tmp_path: Path) -> None:
    with (
        listening(tmp_path) as stranger,
        contextlib.closing(Gate(lambda: Target(stranger.port, TOKEN))) as gate,
    ):
        folder, cookie = opened(gate)
        with pytest.raises(http.client.HTTPException):
            ask(gate, f"{folder}api/jobs/", Cookie=cookie)
        assert stranger.received() == b""


def test_a_gate_whose_loop_cannot_start_is_closed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(coroutine: Coroutine[object, object, None]) -> None:
        coroutine.close()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("slurm_provider.cli.dashboard_gate.asyncio.run", run)
    gate = Gate(lambda: None)
    closing = threading.Thread(target=gate.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
