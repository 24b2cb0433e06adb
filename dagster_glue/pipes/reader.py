"""The Dagster side of a Pipes session: takes messages as they are read, and keeps count.

A reader belongs to one run and is thrown away after it. It has no thread: whoever follows the job
feeds it, so an error while reading is an error of the step and not a thread that ended unseen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster import PipesContextInjector, PipesMessageReader
from dagster._core.pipes.context import PipesMessageHandler
from dagster_pipes import PipesContextData, PipesParams


class RunMessageReader(PipesMessageReader):
    """Hands messages to Dagster. ``params`` tells the writer in the payload where to write."""

    def __init__(self, params: Mapping[str, Any], source: str) -> None:
        """``source`` says in words where messages are read from."""
        self._params = dict(params)
        self._source = source
        self._handler: PipesMessageHandler | None = None
        self.problems: list[str] = []
        """What was written and could not be understood."""
        self.exception: Mapping[str, Any] | None = None
        """The payload's own, as it closed Pipes with it."""

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        self._handler = handler
        try:
            yield self._params
        finally:
            self._handler = None

    def no_messages_debug_text(self) -> str:
        return f"Attempted to read messages from {self._source}."

    @property
    def expected_writer_count(self) -> int:
        """As Dagster's own, which warns that it is a preview."""
        return 1

    @property
    def has_opened(self) -> bool:
        return self._handler is not None and self._handler.received_opened_message

    @property
    def has_closed(self) -> bool:
        return self._handler is not None and self._handler.received_closed_message

    def feed_line(self, line: bytes) -> None:
        """Take one line of a messages file."""
        if not line.strip():
            return
        try:
            message = json.loads(line)
        except ValueError as error:
            self.note_broken(line, str(error))
        else:
            self.feed(message)

    def feed(self, message: Any) -> None:
        """Take one message."""
        assert self._handler is not None, "fed outside the session"
        try:
            self._handler.handle_message(message)
        except Exception as error:  # from another version, or not from dagster_pipes at all
            self._handler.report_pipes_framework_exception(type(self).__name__, sys.exc_info())
            self.problems.append(f"{_short(message)}: {error}")
            return
        params = message.get("params") or {}
        if message["method"] == "closed" and params.get("exception"):
            self.exception = params["exception"]

    def note_broken(self, line: bytes, why: str) -> None:
        self.problems.append(f"{_short(line.decode(errors='replace'))}: {why}")


class GivenContext(PipesContextInjector):
    """Context whose way to the payload was chosen by whoever starts it.

    ``params`` None means: in the parameters themselves, as an environment variable.
    """

    def __init__(self, params: Mapping[str, Any] | None) -> None:
        self._params = params

    @contextmanager
    def inject_context(self, context_data: PipesContextData) -> Iterator[PipesParams]:
        yield {"data": context_data} if self._params is None else dict(self._params)

    def no_messages_debug_text(self) -> str:
        place = "an environment variable" if self._params is None else self._params["path"]
        return f"Attempted to inject context by {place}."


def _short(value: Any, limit: int = 120) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
