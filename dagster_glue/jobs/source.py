"""Where a job's messages and output are read: files in its run folder, or Ray's job log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from dagster_glue.jobs.client import JobRecord, LogUnreadable, NoAnswer
from dagster_glue.jobs.link import JobsLink
from dagster_glue.jobs.output import DriverOutput
from dagster_glue.jobs.run_folder import MESSAGES, STATUS, STDERR, STDOUT, RunFolder
from dagster_glue.jobs.tail import Tail
from dagster_glue.pipes.lines import LineBuffer, LogSplitter, Split
from dagster_glue.pipes.reader import RunMessageReader

_LOG_EVERY_S = 1.0
_LOG_SHARE = 5.0  # pause at least so many times as long as it took


@dataclass(frozen=True)
class Ended:
    """How the payload ended, by the program around it. ``time`` is epoch seconds there."""

    exit_code: int
    signal: int | None
    oom_kills: int
    """Kernel kills for memory in the job's cgroup while the payload ran."""
    time: float
    sizes: dict[str, int] = field(default_factory=dict)
    was_stopped: bool = False
    """Whether it was asked to end."""

    @property
    def succeeded(self) -> bool:
        """By itself, which Ray can only confirm."""
        return self.exit_code == 0 and not self.was_stopped


class Drained(Enum):
    """What a look after the job's end has brought."""

    ALL = "all"
    """Everything was read."""
    SOME = "some"
    NOTHING = "nothing"


class Source(Protocol):
    """Methods raise what :data:`.link.MAY_PASS` names; the next call goes on without loss."""

    @property
    def ended(self) -> Ended | None: ...
    @property
    def needs_ray(self) -> bool:
        """Whether nothing can be read without Ray."""
        ...

    def look(self, wait_s: float = 0.0, pause_s: float = 0.1) -> bool:
        """Take in what is new; False if there was nothing. May wait for it, up to ``wait_s``, with
        a glance every ``pause_s``; in seconds."""
        ...

    def drain(self, record: JobRecord | None) -> Drained:
        """A look after the end, as Ray tells it."""
        ...

    def finish(self, missing: str = "") -> None:
        """Take what stands without a line end; nothing more will come. ``missing`` says why
        something could not be read, if so."""
        ...


class FolderSource:
    """Reads a run folder by byte offset."""

    needs_ray = False

    def __init__(self, folder: RunFolder, reader: RunMessageReader, output: DriverOutput) -> None:
        self._tail = Tail(folder.transport, folder.path, (STATUS, MESSAGES, STDOUT, STDERR))
        self._reader = reader
        self._output = output
        self._messages = LineBuffer()
        self._status = LineBuffer()
        self.ended: Ended | None = None

    def look(self, wait_s: float = 0.0, pause_s: float = 0.1) -> bool:
        found = self._tail.look(wait_s, pause_s)
        for line in self._messages.feed(found[MESSAGES]):
            self._reader.feed_line(line)
        self._output.write("stdout", found[STDOUT])
        self._output.write("stderr", found[STDERR])
        self.ended = end_in(self._status.feed(found[STATUS])) or self.ended
        return any(found.values())

    def drain(self, record: JobRecord | None) -> Drained:
        if self.look():
            return Drained.SOME
        is_all = self.ended is not None and self._tail.is_at(self.ended.sizes)
        return Drained.ALL if is_all else Drained.NOTHING

    def finish(self, missing: str = "") -> None:
        if missing:
            self._reader.problems.append(missing)
        rest = self._messages.flush()
        if rest:
            self._reader.note_broken(rest, "cut off in the middle")
        self._output.write("stdout", b"", final=True)
        self._output.write("stderr", b"", final=True)


class LogSource:
    """Reads Ray's log of the driver, whole each time, and takes what is new of it."""

    needs_ray = True
    ended = None

    def __init__(
        self,
        link: JobsLink,
        submission_id: str,
        reader: RunMessageReader,
        output: DriverOutput,
        say: Callable[[str], None],
    ) -> None:
        self._link = link
        self._say = say
        self._submission_id = submission_id
        self._reader = reader
        self._output = output
        self._splitter = LogSplitter()
        self._offset = 0
        self._next = 0.0
        self._unreadable = ""

    def look(self, wait_s: float = 0.0, pause_s: float = 0.1) -> bool:
        started = time.monotonic()
        if started < self._next:
            return False
        moved = self._take(None)
        # It is the whole log each time: a long one is asked for less often.
        taken_s = time.monotonic() - started
        self._next = started + taken_s + max(_LOG_EVERY_S, _LOG_SHARE * taken_s)
        return moved

    def drain(self, record: JobRecord | None) -> Drained:
        """The driver has ended, so its log is complete."""
        self._take(record)
        return Drained.ALL

    def finish(self, missing: str = "") -> None:
        if self._unreadable or missing:
            self._reader.problems.append(self._unreadable or missing)
        self._hand_on(self._splitter.flush())
        self._output.write("stdout", b"", final=True)

    def _take(self, record: JobRecord | None) -> bool:
        if self._unreadable:
            return False
        try:
            data = self._link.attempt(
                lambda api: api.log(record or api.job(self._submission_id)),
            )
        except LogUnreadable as error:
            self._unreadable = str(error)
            self._say(f"nothing more can be read of Ray job {self._submission_id}: {error}")
            return False
        if data is None:
            raise NoAnswer("Ray does not hand out the job's log now")
        new, self._offset = data[self._offset :], max(self._offset, len(data))
        self._hand_on(self._splitter.feed(new))
        return bool(new)

    def _hand_on(self, split: Split) -> None:
        self._output.write("stdout", split.text)
        for line in split.broken:
            self._reader.note_broken(line, "something else was printed into it")
        for message in split.messages:
            self._reader.feed(message)


def end_in(status: Iterable[bytes]) -> Ended | None:
    """What these lines of a run folder's status say of the payload's end; None if nothing."""
    events = [json.loads(line) for line in status]
    ends = [event for event in events if event["event"] == "ended"]
    return _ended(ends[-1]) if ends else None


def was_closed_in_folder(folder: RunFolder) -> bool:
    """Whether the payload of this folder closed Pipes. Raises MAY_PASS."""
    tail, lines, last = Tail(folder.transport, folder.path, (MESSAGES,)), LineBuffer(), b""
    while data := tail.look()[MESSAGES]:
        last = (lines.feed(data) or [last])[-1]
    return b'"method": "closed"' in last


def was_closed_in_log(log: bytes) -> bool:
    """Whether the payload that printed this closed Pipes."""
    splitter = LogSplitter()
    found = [*splitter.feed(log).messages, *splitter.flush().messages]
    return any(message.get("method") == "closed" for message in found)


def _ended(values: dict[str, Any]) -> Ended:
    return Ended(
        exit_code=values["exit_code"],
        signal=values["signal"],
        oom_kills=values["oom_kills"],
        time=values["time"],
        sizes=values["sizes"],
        was_stopped=values.get("was_stopped", True),  # an earlier version did not say
    )
