"""``ray-slurm init``: a first cluster YAML for this site."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from slurm_provider.cli.cluster_file import parse
from slurm_provider.cli.site_plan import plan_site
from slurm_provider.cli.site_yaml import Login, cluster_yaml, parse_login
from slurm_provider.errors import ConfigError
from slurm_provider.fleet.identity import name_error
from slurm_provider.fleet.verdicts import test_node_types
from slurm_provider.slurm import SlurmClient
from slurm_provider.transport import LocalTransport, Transport

_SYSTEM_PREFIXES = ("/usr", "/usr/local", "/", "/opt/local")


@click.command()
@click.option(
    "-o", "--output", default="slurm.yaml", show_default=True, type=click.Path(), help="File."
)
@click.option("--partition", metavar="NAME", help="Use this one instead of choosing.")
@click.option("--ssh", metavar="USER@HOST[:PORT]", help="Edge node, if Slurm is not here.")
@click.option("-n", "--cluster-name", default="ray", show_default=True, help="Its cluster_name.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
def init(
    output: str, partition: str | None, ssh: str | None, cluster_name: str, force: bool
) -> None:
    """Ask Slurm what there is and write a commented cluster YAML that works."""
    if Path(output).exists() and not force:
        raise ConfigError(f"{output} exists; give another --output, or --force to overwrite it")
    problem = name_error(cluster_name)
    if problem is not None:
        raise ConfigError(f"cluster name {cluster_name!r} cannot be used; {problem}")
    login = _login(ssh)
    transport = _transport(login)
    client = SlurmClient(transport)
    site = client.config()
    partitions = client.partitions()
    plan = plan_site(partitions, partition)
    text = cluster_yaml(
        cluster_name,
        f"{site.cluster_name} (Slurm {site.version})",
        plan,
        partitions,
        client.accounts(),
        None if login is not None else environment_prefix(sys.prefix),
        login,
    )
    file = parse(text, output)
    verdicts = test_node_types(file.cluster, file.config)
    Path(output).write_text(text, encoding="utf-8")
    sizes = (plan.head, plan.cpu, *([plan.gpu] if plan.gpu is not None else []))
    used = ", ".join(dict.fromkeys(size.partition for size in sizes))
    click.echo(f"{output}: node types {', '.join(file.node_types)}; partitions {used}")
    for verdict in verdicts:
        if verdict.problem is not None:
            click.echo(f"node type {verdict.node_type}: {verdict.problem}", err=True)
    click.echo(f"Next: ray-slurm check {output}")


def environment_prefix(prefix: str) -> str | None:
    """``prefix`` if it holds a Ray and is an environment of its own, which hosts may share."""
    has_ray = os.access(os.path.join(prefix, "bin", "ray"), os.X_OK)
    return prefix if has_ray and prefix not in _SYSTEM_PREFIXES else None


def _login(text: str | None) -> Login | None:
    if text is None:
        return None
    try:
        return parse_login(text)
    except ValueError as error:
        raise ConfigError(f"--ssh: {error}") from None


def _transport(login: Login | None) -> Transport:
    if login is None:
        return LocalTransport()
    from slurm_provider.transport import SshSettings, SshTransport

    return SshTransport(SshSettings(host=login.host, user=login.user, port=login.port))
