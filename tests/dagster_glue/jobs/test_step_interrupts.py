"""What an interrupt of a step means: a cancellation, a restart, or a person's Ctrl-C."""

from __future__ import annotations

import signal
from typing import Any

import dagster as dg
import pytest

from dagster_glue.jobs import step as step_module
from dagster_glue.jobs.step import CancelWatch, noting_keyboard

INTERRUPTS = (dg.DagsterExecutionInterruptedError, KeyboardInterrupt)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_module, "_SETTLE_S", 0.1)


def ends_the_run(signum: signal.Signals, origin: object | None = None) -> bool:
    """What the watch says of a signal to a step that runs in this process."""
    said: list[bool] = []

    @dg.op
    def interrupted(context) -> None:  # type: ignore[no-untyped-def]  # Dagster refuses its text
        known = context.instance.get_run_by_id(context.run_id)
        if origin is not None:
            known = known.with_job_origin(origin)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(context.instance), "get_run_by_id", lambda *_: known)
            try:
                with noting_keyboard():
                    signal.raise_signal(signum)
            except INTERRUPTS:
                said.append(CancelWatch(context).was_cancelled())

    @dg.job
    def job() -> None:
        interrupted()

    job.execute_in_process()
    return said[0]


def test_ctrl_c_ends_a_run_that_no_daemon_knows() -> None:
    assert ends_the_run(signal.SIGINT)


def test_a_restart_does_not() -> None:
    assert not ends_the_run(signal.SIGTERM)


def test_an_interrupt_of_a_launched_run_is_the_daemon_s_to_explain() -> None:
    assert not ends_the_run(signal.SIGINT, origin=_origin())


def test_what_was_noted_is_forgotten_with_the_next_step() -> None:
    assert ends_the_run(signal.SIGINT)
    assert not ends_the_run(signal.SIGTERM)


def test_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with noting_keyboard():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def _origin() -> Any:
    from dagster._core.remote_origin import (
        GrpcServerCodeLocationOrigin,
        RemoteJobOrigin,
        RemoteRepositoryOrigin,
    )

    location = GrpcServerCodeLocationOrigin(host="here", port=1, location_name="there")
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, "repository"), "job")
