"""Waiting for a condition, always with a deadline."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

from benchmarks.errors import BenchmarkError

_Value = TypeVar("_Value")


def wait_for(
    what: str, condition: Callable[[], _Value | None], timeout_s: float, poll_s: float = 0.01
) -> _Value:
    """The first true value of ``condition``; raises BenchmarkError when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise BenchmarkError(
                f"{what}: not within {timeout_s:.0f} s. Look at `python -m sandbox status` and run "
                "the benchmark again when the machine is quiet"
            )
        time.sleep(poll_s)
    return value


def answers(address: str, port: int) -> bool:
    """Whether something takes TCP connections there."""
    try:
        socket.create_connection((address, port), timeout=0.5).close()
    except OSError:
        return False
    return True
