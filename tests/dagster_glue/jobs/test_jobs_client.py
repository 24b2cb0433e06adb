"""What the job API's answers mean; a server of canned ones."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dagster_glue.clusters.base import JobsConnection
from dagster_glue.jobs.client import (
    AlreadySubmitted,
    JobRecord,
    JobsApi,
    JobUnknown,
    LogUnreadable,
    NoAnswer,
)
from dagster_glue.jobs.errors import JobRefused
from tests.stranger import listening


class Answers(http.server.ThreadingHTTPServer):
    status = 200
    body = b""
    seen: list[str]
    others: Mapping[str, tuple[int, bytes]] = {}  # other answers, by how the path begins


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Answers)
        self.server.seen.append(f"{self.path} {self.headers.get('Authorization')}")
        answer = (self.server.status, self.server.body)
        for begin, other in self.server.others.items():
            answer = other if self.path.startswith(begin) else answer
        self.send_response(answer[0])
        self.send_header("Content-Length", str(len(answer[1])))
        self.end_headers()
        self.wfile.write(answer[1])

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Answers]:
    with Answers(("127.0.0.1", 0), Handler) as made:
        made.seen = []
        threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def api(server: Answers) -> JobsApi:
    address = f"http://127.0.0.1:{server.server_address[1]}"
    headers = {"Authorization": "Bearer t"}
    return JobsApi(JobsConnection(address, headers, lambda: None, lambda: True))


REFUSED = b"RuntimeError: Request failed with status code 400: bad label\n.\n"
TAKEN = b"Request failed with status code 400: ValueError: Job with submission_id x already exists."


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b"bad", JobRefused),
        (500, REFUSED, JobRefused),
        (500, TAKEN, AlreadySubmitted),
        (500, b"No available agent to submit job, please try again later.", NoAnswer),
        (502, b"", NoAnswer),
    ],
)
def test_a_submission_is_refused_taken_or_unanswered(
    api: JobsApi, server: Answers, status: int, body: bytes, error: type[Exception]
) -> None:
    server.status, server.body = status, body
    with pytest.raises(error):
        api.submit({"submission_id": "x"})


def test_only_a_404_says_that_there_is_no_such_job(api: JobsApi, server: Answers) -> None:
    server.status, server.body = 404, b"Job x does not exist"
    with pytest.raises(JobUnknown):
        api.job("x")
    for status, body in ((500, b"GCS is away"), (200, b"<html>a proxy</html>")):
        server.status, server.body = status, body
        with pytest.raises(NoAnswer):
            api.job("x")


def test_the_environments_proxy_is_left_out_and_the_token_sent(
    api: JobsApi, server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.body = b'{"status": "RUNNING", "start_time": 2000, "metadata": null}'
    record = api.job("x y")
    assert (record.status, record.started, record.is_terminal) == ("RUNNING", 2.0, False)
    assert server.seen == ["/api/jobs/x%20y Bearer t"]


def test_a_token_does_not_show_in_a_connections_repr() -> None:
    assert "sesame" not in repr(JobsConnection("a", {"x": "sesame"}, print, bool))


def test_the_log_comes_another_way_from_a_dashboard_that_its_agents_refuse(
    api: JobsApi, server: Answers
) -> None:
    refusal = b"<AioRpcError ...\n\tstatus = StatusCode.UNAUTHENTICATED\n>"
    server.others = {
        "/api/v0/logs/file": (500, refusal),
        "/api/jobs/x/logs": (200, '{"logs": "gr\u00fc\u00df\\n"}'.encode()),
    }
    running = JobRecord("x", "RUNNING", driver_node_id="n")
    assert api.log(running) == "gr\u00fc\u00df\n".encode()

    broken = b"UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff\n"
    server.others = {**server.others, "/api/jobs/x/logs": (500, broken)}
    with pytest.raises(LogUnreadable, match="not UTF-8"):
        api.log(running)
    server.others = {**server.others, "/api/jobs/x/logs": (500, b"TimeoutError\n")}
    with pytest.raises(NoAnswer):
        api.log(running)


def test_another_user_who_listens_where_the_job_api_was_sees_no_token(tmp_path: Path) -> None:
    with listening(tmp_path) as stranger:
        address = f"http://127.0.0.1:{stranger.port}"
        headers = {"Authorization": "Bearer secret"}
        api = JobsApi(JobsConnection(address, headers, lambda: None, lambda: True))
        with pytest.raises(NoAnswer, match="belongs to another user"):
            api.submit({"entrypoint": "true"})
        assert stranger.received() == b""
