"""What `ray-slurm dashboard` refuses before it connects."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either CONFIG or --cluster-dir"),
        (["x.yaml", "--cluster-dir", "/c"], "give either CONFIG or --cluster-dir"),
        (["x.yaml", "--ssh", "edge"], "with CONFIG, SSH is what its provider.ssh says"),
        (["--cluster-dir", "/c", "--jump-host", "j"], "--jump-host goes with --ssh"),
        (["--cluster-dir", "/c", "--ssh", "u@:22"], "--ssh 'u@:22' is not of the form"),
        (
            ["--cluster-dir", "/c", "--ssh", "edge", "--host-key-policy", "lax"],
            "provider.ssh.host_key_policy",
        ),
    ],
)
def test_a_mistake_in_the_arguments_is_one_sentence(
    cli: Any, arguments: list[str], words: str
) -> None:
    shown = cli.run("dashboard", *arguments)
    assert shown.exit_code in (1, 2)
    assert words in shown.output
    assert "Traceback" not in shown.output


def test_a_cluster_without_a_head_has_no_dashboard(cli: Any, slurm: Any) -> None:
    cli.directory.mkdir(parents=True)
    (cli.directory / "cluster.json").write_text('{"uuid": "u1", "name": "demo"}')
    slurm.queue()
    shown = cli.run("dashboard", cli.write())
    assert shown.exit_code == 1
    assert "cluster 'demo' has no running head" in shown.output
