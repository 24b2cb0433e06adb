"""``ray-slurm script``: what a node's job would be, in full."""

from __future__ import annotations

import shlex
from importlib import resources

import click

from slurm_provider.cli.arguments import config_argument
from slurm_provider.cli.cluster_file import load
from slurm_provider.fleet.preview import LAUNCH, UUID, preview
from slurm_provider.slurm import submit_argv


@click.command()
@config_argument
@click.argument("node_type")
@click.option(
    "--count", type=click.IntRange(min=1), default=1, show_default=True, help="Nodes to launch."
)
def script(config_path: str, cluster_name: str | None, node_type: str, count: int) -> None:
    """Show the sbatch line and the job script of NODE_TYPE; nothing is submitted.

    LAUNCH stands for an id that is made at submission, UUID for the cluster's if there is none yet.
    """
    file = load(config_path, cluster_name)
    cluster = file.cluster
    shown = preview(cluster, file.config, file.checked_node_type(node_type), count)
    line = shlex.join(submit_argv(shown.submission))
    node_script = (resources.files("slurm_provider") / "job_scripts" / "node.sh").read_text()
    placeholders = f"{LAUNCH}, {UUID}" if UUID in line else LAUNCH
    _part(f"submitted on: {cluster.transport.label} (made at submission: {placeholders})", line)
    _part(cluster.store.node_script, node_script)
    _part(cluster.store.paths.activation(LAUNCH), shown.activation)


def _part(title: str, text: str) -> None:
    click.echo(f"# ---- {title}")
    click.echo(text.rstrip("\n") + "\n")
