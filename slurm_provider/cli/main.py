"""The commands of ``ray-slurm``, put together. Ray is not imported: it takes a second to load."""

from __future__ import annotations

import importlib
from typing import Any

import click

from slurm_provider import __version__

_COMMANDS = {
    "init": "Write a commented cluster YAML for this site.",
    "check": "Check the site against a cluster YAML.",
    "script": "Show a node's sbatch line and job script.",
    "status": "Show nodes, jobs, states, reasons and logs.",
    "logs": "Show what a node's job printed.",
    "dashboard": "Open Ray's dashboard in a browser here.",
    "sweep": "Cancel jobs of clusters that are gone.",
    "resume": "Try paused node types again.",
}


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            # Loaded here, because `--help` needs none of it.
            from slurm_provider.cli.expected_errors import EXPECTED, sentence

            if not isinstance(error, EXPECTED):
                raise
            raise click.ClickException(sentence(error)) from error


@click.group(
    cls=_Commands,
    name="ray-slurm",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="ray-slurm")
def main() -> None:
    """Look after Ray clusters on Slurm.

    `ray up`, `ray down`, `ray exec` and Ray's other commands take the same CONFIG, a cluster YAML.
    """
