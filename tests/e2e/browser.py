"""A real browser without a window: Chromium, by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.sandbox_fixture import wait_for

_INSTALL = "apt-get update -q && apt-get install -q -y --no-install-recommends chromium"


class Browser:
    """One tab."""

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._calls = 0
        self._session, self._socket = self._loop.run_until_complete(_connect(address))

    def open(self, url: str) -> None:
        """Go there; the page loads on afterwards."""
        self._call("Page.navigate", url=url)

    def address(self) -> str:
        """The page's, without the part that is for its scripts."""
        return self._evaluated("location.href").partition("#")[0]

    def text(self) -> str:
        """What can be read on the page."""
        return self._evaluated("document.body.innerText")

    def wait_for(self, *words: str, timeout_s: float = 40) -> str:
        """The page's text once all of ``words`` are in it; fails the test when they do not come."""

        def shown() -> str:
            text = self.text()
            return text if all(word in text for word in words) else ""

        with self._showing_itself(words):
            return str(wait_for(shown, timeout_s, poll_s=0.3))

    def screenshot(self, path: Path) -> Path:
        """The visible part as a PNG."""
        picture = self._call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))
        return path

    def close(self) -> None:
        self._loop.run_until_complete(self._socket.close())
        self._loop.run_until_complete(self._session.close())
        self._loop.close()

    @contextlib.contextmanager
    def _showing_itself(self, words: tuple[str, ...]) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            raise AssertionError(f"{words} are not on the page:\n{self.text()}") from error

    def _evaluated(self, expression: str) -> str:
        shown = self._call("Runtime.evaluate", expression=expression)
        return str(shown["result"].get("value", ""))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(self._asked(method, parameters))

    async def _asked(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._calls += 1
        number = self._calls
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=30)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser with an empty profile; skips the test where none can be had."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        argv = [
            _chromium(), "--headless=new", "--disable-gpu", "--no-first-run",
            "--disable-dev-shm-usage", "--window-size=1280,900", "--remote-debugging-port=0",
            f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "about:blank",
        ]  # fmt: skip
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            lines = wait_for(lambda: port_file.exists() and port_file.read_text().split(), 40)
            with contextlib.closing(Browser(f"http://127.0.0.1:{lines[0]}")) as tab:
                yield tab
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _chromium() -> str:
    found = shutil.which("chromium")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(["sh", "-c", _INSTALL], env=env, capture_output=True, timeout=600)
        assert done.returncode == 0, done.stderr.decode()
        found = shutil.which("chromium")
    if found is None:
        pytest.skip("there is no chromium, and only root with apt-get can install it")
    return found


async def _connect(address: str) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    async with session.get(f"{address}/json/list") as answer:
        (tab,) = [page for page in await answer.json() if page["type"] == "page"]
    # A screenshot is one message, of more than aiohttp's default limit.
    return session, await session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0)
