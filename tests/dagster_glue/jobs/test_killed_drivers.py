"""Drivers that are killed after they have told of all their results: their steps fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

# All that a success looks like has come over Pipes when the signal does.
KILLED = """
    import os, signal, time
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        pipes.report_asset_materialization(metadata={{"rows": 7}})
    os.kill({pid}, signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("access", "pid"),
    [("cluster", "os.getpid()"), ("cluster", "os.getppid()"), ("unshared", "os.getpid()")],
    ids=["the payload", "the program around it", "the payload, without shared files"],
)
def test_a_driver_that_is_killed_materializes_nothing(
    request: pytest.FixtureRequest,
    materialize: Any,
    script: Callable[..., str],
    access: str,
    pid: str,
) -> None:
    made = materialize(request.getfixturevalue(access), script(KILLED.format(pid=pid)))

    assert not made.result.success
    assert made.result.asset_materializations_for_node("trained") == []
    assert made.job.outcome.status == "failed"
    assert made.job.outcome.kind is not None
