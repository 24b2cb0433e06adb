"""``ray-slurm`` itself: quick to start, one sentence for a user's mistake."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

COMMANDS = ("init", "check", "script", "status", "logs", "dashboard", "sweep", "resume")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_imports_ray_or_paramiko(command: str) -> None:
    code = (
        "import sys\n"
        "from slurm_provider.cli.main import main\n"
        f"main.get_command(None, {command!r})\n"
        "print([name for name in ('ray', 'paramiko', 'jsonschema') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_help_lists_every_command(cli: Any) -> None:
    shown = cli.run("--help")
    assert shown.exit_code == 0
    assert all(f"  {command} " in shown.output for command in COMMANDS)


@pytest.mark.parametrize("command", ["status", "logs", "dashboard", "resume", "check", "script"])
def test_a_missing_file_is_one_sentence_and_exit_code_1(cli: Any, command: str) -> None:
    more = ["cpu"] if command == "script" else []
    shown = cli.run(command, "nope.yaml", *more)
    assert shown.exit_code == 1
    assert "there is no file nope.yaml" in shown.output
    assert "Traceback" not in shown.output


@pytest.mark.parametrize("command", ["status", "logs", "dashboard", "resume"])
def test_a_cluster_that_was_never_made_is_one_sentence_and_exit_code_1(
    cli: Any, command: str
) -> None:
    shown = cli.run(command, cli.write())
    assert shown.exit_code == 1
    assert "there is no cluster 'demo'" in shown.output
    assert len(shown.output.splitlines()) == 1


def test_a_slurm_that_refuses_to_list_is_one_sentence(cli: Any, slurm: Any) -> None:
    cli.directory.mkdir(parents=True)
    (cli.directory / "cluster.json").write_text('{"uuid": "u1", "name": "demo"}')
    slurm.answer("squeue", stderr="slurm_load_jobs error: Unexpected message received", rc=1)
    shown = cli.run("status", cli.write())
    assert shown.exit_code == 1
    assert shown.output.startswith("Error: squeue (here): ")
