"""Sessions that Ray's commands would leave behind on a node."""

from __future__ import annotations

import click

from slurm_provider.errors import ConfigError

_LEAVING = ("exec", "submit")


def refuse_detached() -> None:
    """Refuse `ray exec` and `ray submit` with ``--tmux`` or ``--screen``, before anything starts.

    They start a session and end; with them ends the job step that they ran in, and Slurm kills what
    is left of a step (ProctrackType=proctrack/cgroup). Raises ConfigError.
    """
    context = click.get_current_context(silent=True)
    if context is None or context.info_name not in _LEAVING:
        return
    for name in ("tmux", "screen"):
        if context.params.get(name):
            raise ConfigError(
                f"--{name}: on a Slurm host such a session would end at once, and the command with "
                "it; use `ray job submit` for what should go on by itself (`ray-slurm status` "
                "shows the line), or `ray attach` for interactive work"
            )
