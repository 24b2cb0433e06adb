"""A local port that hands a browser through to Ray's dashboard, with the token added on the way.

The port of a tunnel is open to everybody on this machine, and Ray's dashboard asks for a token
that nobody wants to copy. The gate asks for a secret of its own: a link that works once sets a
cookie, and what comes with the cookie goes on with the token. The browser never sees the token.

The cookie belongs to a path that others do not know. A browser sends the cookies of 127.0.0.1 to
every port of it, so another user's page there could otherwise collect ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from slurm_provider.listener import open_to_ours
from slurm_provider.transport.base import TransportError

COOKIE = "ray-slurm-dashboard"
_HEAD_BYTES = 64 * 1024
_HEAD_TIMEOUT_S = 60.0
_CHUNK = 1 << 16
_CLOSE_S = 3.0
# Set by the gate, or none of the dashboard's business.
_OWN_HEADERS = ("authorization", "x-ray-authorization", "cookie", "connection", "keep-alive")


@dataclass(frozen=True)
class Target:
    """Where the dashboard answers now."""

    port: int
    """On this machine's loopback."""
    token: str | None
    """None where Ray asks for none."""


class Gate:
    """Listens on 127.0.0.1 until it is closed; each link of it opens one browser."""

    def __init__(self, target: Callable[[], Target | None], port: int = 0) -> None:
        """``target`` is asked for each request, in another thread; None: not now.

        Port 0 means a free one. Raises TransportError when the port is taken.
        """
        try:
            self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        except OSError as error:
            raise TransportError(
                f"cannot listen on 127.0.0.1:{port} ({error.strerror or error}): choose another "
                "port, or none for a free one"
            ) from error
        self.port: int = self._listener.getsockname()[1]
        self._target = target
        self._folder = secrets.token_urlsafe(12)
        self._session = secrets.token_urlsafe(32)
        self._ticket = secrets.token_urlsafe(24)
        self._stopping: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._serve, name="dashboard-gate", daemon=True)
        self._thread.start()

    @property
    def link(self) -> str:
        """Opens the dashboard in one browser; another one once it was used."""
        return f"http://127.0.0.1:{self.port}/{self._ticket}"

    def close(self) -> None:
        """Close all connections. Harmless when repeated."""
        with contextlib.suppress(RuntimeError, OSError):  # the loop has ended, or never started
            loop, stop = self._stopping.result()
            loop.call_soon_threadsafe(stop.set)
        self._thread.join(_CLOSE_S)

    def _serve(self) -> None:
        try:
            asyncio.run(self._serve_until_stopped())
        except OSError as error:  # no descriptor left for a loop, say
            if not self._stopping.done():
                self._stopping.set_exception(error)
        finally:
            self._listener.close()

    async def _serve_until_stopped(self) -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, sock=self._listener, limit=_HEAD_BYTES)
        self._stopping.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_TIMEOUT_S)
            await self._answer(parse_request(head), reader, writer)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError):
            pass  # gone, or no browser
        except ValueError:
            await _say(writer, "400 Bad Request", "This is not HTTP.")
        except OSError:
            pass  # the browser or the dashboard went away in the middle
        finally:
            writer.close()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if hmac.compare_digest(request.target.encode(), f"/{self._ticket}".encode()):
            self._ticket = secrets.token_urlsafe(24)
            await _send(writer, self._welcome())
        elif not self._may_pass(request):
            await _say(
                writer,
                "403 Forbidden",
                "This link was used already, or is none. `ray-slurm dashboard` prints a new one "
                "whenever one was used.",
            )
        else:
            target = await asyncio.to_thread(self._target)
            if target is None:
                await _say(
                    writer, "503 Service Unavailable", "The way to the cluster is being opened."
                )
                return
            await _pass_on(request.forwarded(f"/{self._folder}", target.token), target.port,
                           reader, writer)  # fmt: skip

    def _may_pass(self, request: Request) -> bool:
        """The cookie alone is not enough: a page of another port is "same site" to a browser."""
        own_origin = request.origin is None or request.origin == f"http://{request.host}"
        is_ours = hmac.compare_digest(request.cookie.encode(), self._session.encode())
        return is_ours and own_origin and request.target.startswith(f"/{self._folder}/")

    def _welcome(self) -> bytes:
        # By a page, not by a redirect: after a link in another site's page, a browser would not
        # send a strict cookie along with the redirected request.
        page = f'<meta http-equiv="refresh" content="0; url=/{self._folder}/">'
        return _response(
            "200 OK",
            page,
            f"Set-Cookie: {COOKIE}={self._session}; Path=/{self._folder}/; HttpOnly; "
            "SameSite=Strict",
        )


@dataclass(frozen=True)
class Request:
    """The first lines of an HTTP request."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]

    @property
    def cookie(self) -> str:
        """The gate's own; empty without."""
        for text in self._values("cookie"):
            jar: SimpleCookie = SimpleCookie()
            with contextlib.suppress(CookieError):
                jar.load(text)
            if COOKIE in jar:
                return jar[COOKIE].value
        return ""

    @property
    def host(self) -> str:
        return next(iter(self._values("host")), "")

    @property
    def origin(self) -> str | None:
        """Which page a script's request comes from; None where a browser does not say."""
        return next(iter(self._values("origin")), None)

    @property
    def is_upgrade(self) -> bool:
        """To a websocket."""
        return any("upgrade" in value.lower() for value in self._values("connection"))

    def forwarded(self, prefix: str, token: str | None) -> bytes:
        """As the dashboard gets it.

        One request a connection, so that there is nothing to be read in the answers, nor in what
        comes after these lines.
        """
        lines = [f"{self.method} {self.target.removeprefix(prefix)} HTTP/1.1"]
        lines += [f"{key}: {value}" for key, value in self.headers
                  if key.lower() not in _OWN_HEADERS]  # fmt: skip
        lines.append("Connection: Upgrade" if self.is_upgrade else "Connection: close")
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


def parse_request(head: bytes) -> Request:
    """The request line and headers up to the empty line. Raises ValueError."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, version = first.split(" ")
    if not version.startswith("HTTP/1.") or not target.startswith("/"):
        raise ValueError(f"not a request: {first!r}")
    headers = []
    for line in lines:
        key, colon, value = line.partition(":")
        if not colon or not key or key != key.strip():
            raise ValueError(f"not a header: {line!r}")
        headers.append((key, value.strip()))
    return Request(method, target, tuple(headers))


async def _pass_on(
    head: bytes, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    there, to_there = await open_to_ours("127.0.0.1", port)
    to_there.write(head)
    ways = [asyncio.create_task(_copy(reader, to_there)), asyncio.create_task(_copy(there, writer))]
    try:
        # A browser that closes its end wants no answer any more.
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        to_there.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()


async def _say(writer: asyncio.StreamWriter, status: str, words: str) -> None:
    await _send(writer, _response(status, f"<p>{words}</p>"))


async def _send(writer: asyncio.StreamWriter, answer: bytes) -> None:
    writer.write(answer)
    await writer.drain()


def _response(status: str, page: str, *headers: str) -> bytes:
    body = f"<!doctype html><title>Ray dashboard</title>{page}\n".encode()
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: text/html; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
