"""``ray-slurm logs``: what a node's job printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click

from slurm_provider.cli.arguments import config_argument
from slurm_provider.cli.cluster_file import load
from slurm_provider.cluster import Cluster
from slurm_provider.errors import ClusterError
from slurm_provider.fleet.identity import HEAD, node_id, parse_job_name
from slurm_provider.overview import made_cluster
from slurm_provider.slurm import Job

_CHUNK = 1 << 16


@click.command()
@config_argument
@click.argument("node", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
def logs(
    config_path: str, cluster_name: str | None, node: str | None, follow: bool, tail: int | None
) -> None:
    """Show the log of NODE: a node id, a Slurm job id, a host, or a node type (or `head`) that has
    one node; without it, the head's.

    The log holds what the environment's activation, the node's agent and `ray start` printed.
    """
    cluster = load(config_path, cluster_name).cluster
    uuid = made_cluster(cluster)
    jobs = _jobs(cluster, uuid)
    candidates = _candidates(cluster, jobs)
    if node is not None and node not in candidates:
        _refuse_unstarted(cluster, jobs, node)
    path = cluster.store.paths.log(choose(candidates, node))
    _print(cluster, path, follow=follow, tail=tail)


def choose(candidates: Mapping[str, Mapping[str, Any]], wanted: str | None) -> str:
    """The one node that is meant; raises ClusterError that lists the candidates otherwise.

    ``candidates`` are node ids with ``kind``, ``node_type`` (empty: not known any more), ``host``,
    ``job_ids`` and ``is_live``.
    """
    if wanted is None:
        heads = [i for i, about in candidates.items() if about["kind"] == HEAD]
        found = [i for i in heads if candidates[i]["is_live"]] or heads[-1:]
        problem = "there is no log of a head yet"
    elif wanted in candidates:
        return wanted
    else:
        matching = [i for i, about in candidates.items() if _is_meant(wanted, i, about)]
        # A host may have had many nodes; those at work are what somebody asks about.
        living = [i for i in matching if candidates[i]["is_live"]]
        found = living or matching
        problem = f"no node is called {wanted!r}, and no job or host of this cluster"
    if len(found) == 1:
        return found[0]
    if found:
        problem = f"{wanted or 'the head'} could be several nodes; name one"
    listed = "".join(f"\n  {line}" for line in _lines(candidates, found or candidates))
    raise ClusterError(f"{problem}{':' if listed else ''}{listed}")


def _is_meant(wanted: str, identifier: str, about: Mapping[str, Any]) -> bool:
    names = (about["host"], *about["job_ids"], about["kind"], about["node_type"])
    return wanted in names or identifier.startswith(f"{wanted}-")


def _refuse_unstarted(cluster: Cluster, jobs: Mapping[str, Job], wanted: str) -> None:
    """A node that `ray-slurm status` lists may have printed nothing yet."""
    for held in (cluster.store.autoscaler_state() or {}).get("held", []):
        if held["node_id"] == wanted and wanted not in jobs:
            raise ClusterError(
                f"node {wanted} is held back, not submitted yet, so it has no log: {held['reason']}"
            )
    job = jobs.get(wanted)
    if job is not None and job.state.is_pending:
        raise ClusterError(
            f"node {wanted} has no log yet: its job {job.job_id} is in Slurm's queue "
            "(`ray-slurm status` shows why)"
        )


def _jobs(cluster: Cluster, uuid: str) -> dict[str, Job]:
    """The cluster's jobs in squeue, by node id."""
    jobs: dict[str, Job] = {}
    for job in cluster.client.queue():
        identity = parse_job_name(job.name)
        if identity is None or identity.uuid != uuid:
            continue
        task = job.job_id.partition("_")[2]
        index = identity.index if identity.index is not None else int(task or 0)
        jobs[node_id(identity.launch, index)] = job
    return jobs


def _candidates(cluster: Cluster, jobs: Mapping[str, Job]) -> dict[str, dict[str, Any]]:
    """Every node with a log, by id."""
    head = cluster.store.head() or {}
    reports = cluster.store.reports()
    return {
        identifier: _about(jobs.get(identifier), reports.get(identifier, {}), identifier, head)
        for identifier in cluster.store.logged_nodes()
    }


def _about(
    job: Job | None, report: Mapping[str, Any], identifier: str, head: Mapping[str, Any]
) -> dict[str, Any]:
    identity = parse_job_name(job.name) if job is not None else None
    is_head = head.get("node_id") == identifier or (identity is not None and identity.kind == HEAD)
    ids = [str(report.get("job_id", ""))]
    if job is not None:
        # A task's own raw id can be the whole array's, which then means all its tasks.
        ids += [job.job_id, job.raw_id, job.job_id.partition("_")[0]]
    return {
        "kind": HEAD if is_head else "worker",
        "node_type": "" if identity is None else identity.node_type,
        "host": str(report.get("host") or (job.nodelist if job is not None else "")),
        "job_ids": sorted({identifier for identifier in ids if identifier}),
        "is_live": job is not None and job.state.is_live,
    }


def _lines(candidates: Mapping[str, Mapping[str, Any]], found: Iterable[str]) -> list[str]:
    lines = []
    for identifier in found:
        about = candidates[identifier]
        ids = " ".join(about["job_ids"]) or "-"
        lines.append(f"{identifier}  {about['kind']}  job {ids}  {about['host']}")
    return lines


def _print(cluster: Cluster, path: str, *, follow: bool, tail: int | None) -> None:
    lines = f"--lines={'+1' if tail is None else tail}"
    # -F: Slurm makes the file when the job starts, and may not have done so yet.
    argv = ["tail", lines, *(["-F"] if follow else []), "--", path]
    process = cluster.store.transport.popen(argv)
    try:
        while chunk := process.stdout.read1(_CHUNK):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        if process.wait(timeout_s=10) != 0:
            raise ClusterError(process.stderr_tail.strip() or f"{path} cannot be read")
    except KeyboardInterrupt:
        if not follow:
            raise
    finally:
        process.terminate()
