"""What the driver prints: in the step's own streams and, if asked, among the events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from dagster_glue.jobs.options import RunOptions
from dagster_glue.jobs.output import DriverOutput

PAYLOAD = """
import sys
from dagster_pipes import open_dagster_pipes

with open_dagster_pipes():
    print("said aloud")
    print("said aside", file=sys.stderr)
"""


def test_both_streams_keep_apart_and_characters_whole(capsys: pytest.CaptureFixture[str]) -> None:
    output = DriverOutput()
    whole = "grüße\n".encode()
    output.write("stdout", whole[:3])  # in the middle of a character
    output.write("stderr", b"no harm\n")
    output.write("stdout", whole[3:])
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("grüße\n", "no harm\n")


def test_events_hold_the_same_text_in_pieces_that_fit() -> None:
    events: list[str] = []
    output = DriverOutput(events.append)
    output.write("stdout", b"one\ntwo\n")
    output.write("stdout", b"\n \n")  # nothing to be seen
    output.write("stderr", b"x" * 20_000)
    assert events[0] == "one\ntwo"
    assert "".join(events[1:]) == "x" * 20_000
    assert max(map(len, events)) <= 8 * 1024


def test_the_tail_is_standard_error_or_else_standard_output() -> None:
    output = DriverOutput()
    output.write("stdout", b"a\nb\nc\n")
    assert output.tail(2) == "b\nc"
    output.write("stderr", b"Traceback\n")
    assert output.tail(2) == "Traceback"


@pytest.mark.parametrize("log_events", [True, False])
def test_the_driver_s_output_is_among_the_events_if_that_was_asked_for(
    cluster: Any,
    script: Callable[[str], str],
    materialize: Callable[..., Any],
    log_events: bool,
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        options = RunOptions(log_events=log_events)
        done = materialize(cluster, script(PAYLOAD), options=options, instance=instance)
        logged = [entry.user_message for entry in instance.all_logs(done.result.run_id)]
    found = {words for words in ("said aloud", "said aside") for said in logged if words in said}
    assert found == ({"said aloud", "said aside"} if log_events else set())
