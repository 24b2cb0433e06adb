"""``ray-slurm resume``: try paused node types again."""

from __future__ import annotations

import click

from slurm_provider.cli.arguments import config_argument
from slurm_provider.cli.cluster_file import load
from slurm_provider.overview import made_cluster


@click.command()
@config_argument
def resume(config_path: str, cluster_name: str | None) -> None:
    """Try node types again that were paused because their nodes kept failing."""
    cluster = load(config_path, cluster_name).cluster
    made_cluster(cluster)
    types = (cluster.store.autoscaler_state() or {}).get("types", {})
    if not types:
        click.echo(f"No node type of cluster {cluster.name} is paused; nothing to do.")
        return
    cluster.store.ask_resume()
    click.echo(f"The autoscaler will try again: {', '.join(types)}. See `ray-slurm status`.")
