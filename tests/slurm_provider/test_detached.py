"""A session that Slurm would kill at once is refused, whatever Ray is asked to run in it."""

from __future__ import annotations

from typing import Any

import click
import pytest

from slurm_provider.detached import refuse_detached
from slurm_provider.errors import ConfigError


def _within(command: str, **params: Any) -> click.Context:
    context = click.Context(click.Command(command), info_name=command)
    context.params = params
    return context


@pytest.mark.parametrize("command", ["exec", "submit"])
@pytest.mark.parametrize("option", ["tmux", "screen"])
def test_a_session_that_is_left_behind_is_refused_with_the_way_to_go(
    command: str, option: str
) -> None:
    with (
        _within(command, **{"tmux": False, "screen": False, option: True}),
        pytest.raises(ConfigError, match=rf"^--{option}: .*`ray job submit`.*`ray attach`"),
    ):
        refuse_detached()


def test_everything_else_goes_on() -> None:
    refuse_detached()  # outside of any command, as on the head
    with _within("exec", tmux=False, screen=False):
        refuse_detached()
    with _within("attach", tmux=True, screen=False):
        refuse_detached()
