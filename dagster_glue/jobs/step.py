"""What is asked of Dagster about the step that runs: who it is, and whether it was cancelled."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from dagster import AssetExecutionContext, DagsterRunStatus

from dagster_glue.jobs.lineage import Context
from dagster_glue.jobs.submission import StepCall

_CANCEL_STATES = (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED)
_ASK_EVERY_S = 5.0
_SETTLE_S = 2.0  # for the run's new status to be seen by this process

_lock = threading.Lock()
_keyboard = threading.Event()
_calls: WeakKeyDictionary[object, int] = WeakKeyDictionary()


@contextmanager
def noting_keyboard() -> Iterator[None]:
    """Note for the block's time whether SIGINT came; Dagster makes one exception of it and SIGTERM.

    Does nothing outside the main thread, which alone gets signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> Any:
        if number == signal.SIGINT:
            _keyboard.set()
        if callable(before):
            return before(number, frame)

    _keyboard.clear()
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class StepCancelled(Exception):
    """The run was cancelled in Dagster, and no signal has told this process so."""


def next_call(context: Context) -> StepCall:
    """Count a call of this step; the count starts anew with each attempt."""
    if is_direct(context):  # a test that calls the asset's function
        return StepCall(uuid.uuid4().hex, "direct", 0, 0)
    step = context.get_step_execution_context()
    with _lock:
        call = _calls.get(step, 0)
        _calls[step] = call + 1
    return StepCall(run_id(context), step.step.key, context.retry_number, call)


def run_id(context: Context) -> str:
    op = context.op_execution_context if isinstance(context, AssetExecutionContext) else context
    return op.run_id


def is_direct(context: Context) -> bool:
    """Whether the asset was called as a function, with a built context."""
    return run_id(context) == "EPHEMERAL"


def is_tried_again(context: Context, within_s: float) -> bool:
    """Whether Dagster's RetryPolicy starts this step again, and so soon, if it fails now."""
    if is_direct(context):
        return False
    step = context.get_step_execution_context()
    policy = step.op_retry_policy
    if policy is None or step.retry_mode.disabled:
        return False
    attempts = step.previous_attempt_count
    return attempts < policy.max_retries and policy.calculate_delay(attempts + 1) <= within_s


class CancelWatch:
    """Tells a cancelled run from a daemon or code server that restarts: both send SIGTERM."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next = 0.0  # at once: with a RetryPolicy, Dagster retries a step that was cancelled

    def check(self) -> None:
        """Raises StepCancelled; asks Dagster's storage every few seconds only."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _ASK_EVERY_S
        if self._is_cancelled():
            raise StepCancelled("the run was cancelled")

    def was_cancelled(self) -> bool:
        """After an interrupt: whether it was a cancellation, or Ctrl-C in a run that no daemon
        knows and so nobody would go on with."""
        if _keyboard.is_set() and self._ends_with_this_process():
            return True
        deadline = time.monotonic() + _SETTLE_S
        while not self._is_cancelled():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def _ends_with_this_process(self) -> bool:
        """Of dg.materialize and Dagster's command line: launched runs have an origin."""
        if is_direct(self._context):
            return True
        run = self._context.instance.get_run_by_id(run_id(self._context))
        return run is None or run.remote_job_origin is None

    def _is_cancelled(self) -> bool:
        if is_direct(self._context):
            return False
        run = self._context.instance.get_run_by_id(run_id(self._context))
        return run is not None and run.status in _CANCEL_STATES
