"""``ray-slurm status``: the cluster's nodes and what each one is waiting for."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any

import click

from slurm_provider.cli.arguments import config_argument
from slurm_provider.cli.cluster_file import load
from slurm_provider.cli.output import echo_table, moment
from slurm_provider.cluster import Cluster
from slurm_provider.fleet.brake import times_in_a_row
from slurm_provider.job_submit import job_submit_line
from slurm_provider.overview import (
    NodeRow,
    Setback,
    head_end,
    made_cluster,
    node_rows,
    read_facts,
    setbacks,
)

_HEADERS = ("NODE", "TYPE", "KIND", "STATE", "JOB", "HOST", "START", "END", "REASON")


@click.command()
@config_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON with the keys above.")
def status(config_path: str, cluster_name: str | None, as_json: bool) -> None:
    """Show nodes, jobs, states, reasons, expected starts, ends and logs.

    \b
    With --json, one object; its keys stay, new ones may come:
      cluster, uuid, directory   which cluster, and its folder on the shared file system
      closing                    true while it is being taken down
      head                       null, or address (of the GCS), host, dashboard, client_port
      head_ended                 null, or how the head ended
      token_path                 null, or the file with the authentication token
      nodes                      a list: node_id, node_type, kind (head, worker), state
                                 (held, queued, running, joined, draining, ending), job_id, host,
                                 reason, reason_kind (of a queued one: waiting, limited, held,
                                 never, unknown), expected_start, submit_time, start_time,
                                 joined_time, end_time, log_path
      setbacks                   a list of node types that fail: node_type, paused, failures,
                                 cause, log_path, log_tail
    Times are seconds since 1970; null where nobody knows.
    """
    file = load(config_path, cluster_name)
    shown = describe(file.cluster)
    if as_json:
        click.echo(json.dumps(shown, indent=2, default=asdict))
    else:
        _echo(shown, config_path, job_submit_line(file.cluster))


def describe(cluster: Cluster) -> dict[str, Any]:
    """What ``--json`` prints, with NodeRow and Setback objects in its lists.

    Raises ClusterError where there is no such cluster, SlurmError, TransportError.
    """
    uuid = made_cluster(cluster)
    facts = read_facts(cluster, uuid, time.time())
    nodes = node_rows(facts)
    heads = {row.node_id for row in nodes if row.kind == "head"}
    head = cluster.store.head()
    ended = None if heads else head_end(facts) or "it is not in Slurm's queue"
    return {
        "cluster": cluster.name,
        "uuid": uuid,
        "directory": cluster.store.paths.root,
        "closing": cluster.store.is_closing(),
        "head": _head(head) if head is not None and head["node_id"] in heads else None,
        "head_ended": ended,
        "token_path": cluster.store.paths.token if cluster.store.token() else None,
        "nodes": nodes,
        "setbacks": setbacks(facts, cluster.store.log_tail) if heads else [],
    }


def _head(head: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": head["gcs_address"],
        "host": head["host"],
        "dashboard": f"{head['dashboard_host']}:{head['dashboard_port']}",
        "client_port": int(head["client_port"]),
    }


def _echo(shown: dict[str, Any], config_path: str, job_submit: str) -> None:
    click.echo(f"cluster {shown['cluster']} in {shown['directory']}")
    if shown["closing"]:
        click.echo("It is being taken down.")
    head = shown["head"]
    if head is not None:
        click.echo(f"head       {head['address']} on {head['host']}")
        click.echo(
            f"dashboard  `ray-slurm dashboard {config_path}` (on the head: {head['dashboard']})"
        )
        click.echo(f"jobs       while `ray dashboard {config_path}` runs: {job_submit}")
    elif shown["head_ended"]:
        click.echo(f"The head is gone ({shown['head_ended']}); `ray up {config_path}` starts one.")
    if shown["token_path"]:
        click.echo(f"token      {shown['token_path']}")
    click.echo(f"logs       `ray-slurm logs {config_path} NODE`")
    click.echo()
    if shown["nodes"]:
        _echo_nodes(shown["nodes"])
    else:
        click.echo("No nodes.")
    for setback in shown["setbacks"]:
        _echo_setback(setback, config_path)


def _echo_nodes(rows: list[NodeRow]) -> None:
    if sys.stdout.isatty():  # a path on every line would leave no room for the reasons
        echo_table(_HEADERS, [_cells(row) for row in rows])
    else:
        echo_table((*_HEADERS, "LOG"), [(*_cells(row), row.log_path or "") for row in rows])


def _cells(row: NodeRow) -> tuple[str, ...]:
    return (
        row.node_id,
        row.node_type,
        row.kind,
        row.state,
        row.job_id or "",
        row.host or "",
        moment(row.expected_start),
        moment(row.end_time),
        row.explained,
    )


def _echo_setback(setback: Setback, config_path: str) -> None:
    click.echo()
    if setback.paused:
        click.echo(
            f"Node type {setback.node_type} is paused: {setback.cause}\n"
            f"  When it is mended: `ray-slurm resume {config_path}`"
        )
    else:
        click.echo(
            f"Node type {setback.node_type} failed {times_in_a_row(setback.failures)} and is tried "
            f"again: {setback.cause}"
        )
    if setback.log_path:
        click.echo(f"  {setback.log_path}")
        for line in setback.log_tail.splitlines():
            click.echo(f"  | {line}")
