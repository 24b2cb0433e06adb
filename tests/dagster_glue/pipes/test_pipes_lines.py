from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dagster_glue.pipes.lines import LineBuffer, LogSplitter, Split


def message(number: Any) -> dict[str, Any]:
    return {"__dagster_pipes_version": "0.1", "method": "x", "params": number}


def split_in(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def run(pieces: list[bytes]) -> Split:
    splitter, whole = LogSplitter(), Split()
    for part in [*(splitter.feed(piece) for piece in pieces), splitter.flush()]:
        whole.messages += part.messages
        whole.text += part.text
        whole.broken += part.broken
    return whole


@given(st.binary(), st.lists(st.integers(min_value=0)))
def test_lines_come_whole_however_the_bytes_come(data: bytes, cuts: list[int]) -> None:
    buffer = LineBuffer()
    lines = [line for piece in split_in(data, cuts) for line in buffer.feed(piece)]
    assert [*lines, buffer.flush()] == data.split(b"\n")


@given(
    st.lists(st.one_of(st.text(), st.integers(), st.binary().filter(lambda b: b"{" not in b))),
    st.lists(st.integers(min_value=0)),
)
def test_messages_are_found_between_any_noise_however_the_bytes_come(
    parts: list[Any], cuts: list[int]
) -> None:
    """Bytes are noise, anything else is a message."""
    log = b"".join(
        part if isinstance(part, bytes) else json.dumps(message(part)).encode() + b"\n"
        for part in parts
    )
    found = run(split_in(log, cuts))
    assert [m["params"] for m in found.messages] == [p for p in parts if not isinstance(p, bytes)]
    assert found.text == b"".join(p for p in parts if isinstance(p, bytes))
    assert not found.broken


def test_a_workers_line_between_a_message_and_its_line_end_is_text() -> None:
    one, two = (json.dumps(message(n)).encode() for n in (1, 2))
    found = run([b"50%|##" + one + b"(pid=3) hello\n\n" + two + b"\n"])
    assert [m["params"] for m in found.messages] == [1, 2]
    assert found.text == b"50%|##(pid=3) hello\n\n"


def test_a_message_that_somebody_wrote_into_is_told_and_the_next_ones_arrive() -> None:
    text = json.dumps(message("a" * 50)).encode()
    found = run([text[:60] + b"noise\n" + text[60:] + b"\n", json.dumps(message(2)).encode()])
    assert len(found.broken) == 1
    assert [m["params"] for m in found.messages] == [2]


def test_a_large_message_in_many_pieces_takes_no_quadratic_time() -> None:
    data = json.dumps(message("x" * 20_000_000)).encode() + b"\n"
    found = run([data[i : i + 1_000_000] for i in range(0, len(data), 1_000_000)])
    assert len(found.messages) == 1
