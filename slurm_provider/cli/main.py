"""The commands of ``ray-slurm``, put together. Ray is not imported: it takes a second to load."""

from __future__ import annotations

import importlib
from typing import Any

import click

from slurm_provider import __version__
from slurm_provider.cli.expected_errors import EXPECTED, sentence

_COMMANDS = ("init", "check", "script", "status", "logs", "sweep", "resume")


class _Commands(click.Group):
    """Loads only the command that is called; a user's mistake is one message, no traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"slurm_provider.cli.{cmd_name}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EXPECTED as error:
            raise click.ClickException(sentence(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ray-slurm")
def main() -> None:
    """Look after Ray clusters on Slurm.

    `ray up`, `ray down`, `ray exec` and Ray's other commands take the same CONFIG, a cluster YAML.
    """
