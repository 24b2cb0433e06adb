"""Ray's job API over HTTP: one method, one request, each with a time limit.

Ray's own JobSubmissionClient is not used: it has no time limits, RAY_ADDRESS in the environment
overrides the address it is given, and importing Ray takes as long as a small job.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from dagster_glue.clusters.base import JobsConnection
from dagster_glue.jobs.errors import JobRefused
from slurm_provider.loopback_http import opener

_TIMEOUT_S = 15.0
_TRANSFER_TIMEOUT_S = 120.0  # of silence, for packages and logs
_UPLOAD_PATH = "/api/packages/gcs/"
_TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")
# Ray wraps a 400 of its agent into a 500; the text of the agent's answer remains.
_REFUSAL = "status code 400"
_NO_TOKEN = b"StatusCode.UNAUTHENTICATED"
_NOT_TEXT = "UnicodeDecodeError"


class NoAnswer(ConnectionError):
    """Ray gave no usable answer; whether the request had its effect is unknown."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        """``status`` is HTTP's, None if nothing was answered at all."""
        super().__init__(message)
        self.status = status


class JobUnknown(LookupError):
    """Ray answers, and knows no such job."""


class LogUnreadable(Exception):
    """Ray gives this job's log to nobody, now or later."""


class AlreadySubmitted(Exception):
    """There is a job of this submission id."""


@dataclass(frozen=True)
class JobRecord:
    """A job as Ray tells it. Times are epoch seconds."""

    submission_id: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str = ""
    error_type: str = ""
    exit_code: int | None = None
    started: float | None = None
    ended: float | None = None
    ray_job_id: str | None = None
    """Of the driver; None before it called ``ray.init``."""
    driver_node_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        return self.status in _TERMINAL


class JobsApi:
    """Methods raise NoAnswer unless they say more."""

    def __init__(self, connection: JobsConnection) -> None:
        self._connection = connection
        self._opener = opener()

    def ray_version(self) -> str:
        return str(self._json("/api/version")["ray_version"])

    def submit(self, request: Mapping[str, Any]) -> None:
        """Raises AlreadySubmitted or JobRefused."""
        status, body = self._ask("POST", "/api/jobs/", json.dumps(request).encode())
        text = body.decode(errors="replace")
        if status == 200:
            return
        if "already exists" in text:
            raise AlreadySubmitted(str(request.get("submission_id")))
        if status == 400 or (status == 500 and _REFUSAL in text):
            raise JobRefused(f"Ray refused the job: {_last_line(text)}")
        raise _unusable("job", status, body)

    def job(self, submission_id: str) -> JobRecord:
        """Raises JobUnknown."""
        values = self._json(f"/api/jobs/{urllib.parse.quote(submission_id)}")
        return _record(submission_id, values)

    def stop(self, submission_id: str) -> None:
        """Ask for the end; it comes later. Raises JobUnknown."""
        self._json(f"/api/jobs/{urllib.parse.quote(submission_id)}/stop", method="POST")

    def log(self, record: JobRecord) -> bytes:
        """All that the driver printed so far; ``b""`` before it started.

        Raises LogUnreadable.
        """
        if record.driver_node_id is None:
            return b""
        # Not /api/jobs/<id>/logs, which fails for good on a byte that is not UTF-8 (Ray 2.60).
        query = urllib.parse.urlencode(
            {
                "node_id": record.driver_node_id,
                "filename": f"job-driver-{record.submission_id}.log",
                "lines": "-1",
            }
        )
        status, body = self._ask("GET", f"/api/v0/logs/file?{query}", timeout_s=_TRANSFER_TIMEOUT_S)
        if status == 500 and _NO_TOKEN in body:
            # The dashboard of Ray 2.52 has no token for the agents of its own nodes.
            path = f"/api/jobs/{urllib.parse.quote(record.submission_id)}/logs"
            try:
                return str(self._json(path, timeout_s=_TRANSFER_TIMEOUT_S)["logs"]).encode()
            except NoAnswer as error:
                if error.status == 500 and _NOT_TEXT in str(error):
                    raise LogUnreadable(
                        "the job printed bytes that are not UTF-8, for which this version of Ray "
                        "gives nothing of its log any more: print text, use a newer Ray (2.60 is "
                        "tested), or a cluster with a shared file system, where output is read "
                        "from files"
                    ) from None
                raise
        if status != 200:
            raise _unusable("log", status, body)
        return body

    def has_package(self, uri: str) -> bool:
        """Also keeps Ray from dropping it for a while."""
        status, body = self._ask("GET", _package_path(uri))
        if status not in (200, 404):
            raise _unusable("package", status, body)
        return status == 200

    def put_package(self, uri: str, data: bytes) -> None:
        status, body = self._ask("PUT", _package_path(uri), data, timeout_s=_TRANSFER_TIMEOUT_S)
        if status == 413:
            raise JobRefused(f"Ray refused the package of {len(data)} bytes: {body.decode()}")
        if status != 200:
            raise _unusable("package", status, body)

    def _json(
        self, path: str, method: str = "GET", timeout_s: float = _TIMEOUT_S
    ) -> dict[str, Any]:
        status, body = self._ask(method, path, timeout_s=timeout_s)
        if status == 404:
            raise JobUnknown(body.decode(errors="replace"))
        if status != 200:
            raise _unusable("job", status, body)
        try:
            values = json.loads(body)
        except ValueError as error:
            raise NoAnswer(f"Ray's job API answered something else than JSON: {error}") from None
        if not isinstance(values, dict):
            raise NoAnswer(f"Ray's job API answered no object: {str(values)[:100]}")
        return values

    def _ask(
        self, method: str, path: str, data: bytes | None = None, timeout_s: float = _TIMEOUT_S
    ) -> tuple[int, bytes]:
        request = urllib.request.Request(
            self._connection.address + path,
            data=data,
            headers={"Content-Type": "application/json", **self._connection.headers},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                try:
                    return error.code, error.read()
                except (OSError, HTTPException):
                    return error.code, b""
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise NoAnswer(f"Ray's job API does not answer ({reason})") from error


def _unusable(name: str, status: int, body: bytes) -> NoAnswer:
    text = _last_line(body.decode(errors="replace"))
    return NoAnswer(f"Ray's {name} API answered {status}: {text}", status=status)


def _record(submission_id: str, values: Mapping[str, Any]) -> JobRecord:
    return JobRecord(
        submission_id=submission_id,
        status=str(values.get("status")),
        message=values.get("message") or "",
        error_type=values.get("error_type") or "",
        exit_code=values.get("driver_exit_code"),
        started=_seconds(values.get("start_time")),
        ended=_seconds(values.get("end_time")),
        ray_job_id=values.get("job_id"),
        driver_node_id=values.get("driver_node_id"),
        metadata=values.get("metadata") or {},
    )


def _package_path(uri: str) -> str:
    return _UPLOAD_PATH + urllib.parse.quote(uri.removeprefix("gcs://"))


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip(" .")]
    return lines[-1] if lines else "(nothing)"
