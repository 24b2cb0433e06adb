"""``ray-slurm check``: will a cluster work here, and if not, what is to be done."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from slurm_provider import config_cache
from slurm_provider.cli.arguments import config_argument
from slurm_provider.cli.cluster_file import ClusterFile, load
from slurm_provider.cli.expected_errors import EXPECTED, sentence
from slurm_provider.cli.findings import (
    OK,
    PROBLEM,
    SHARED_FOLDER,
    SKIPPED,
    WARNING,
    Finding,
    configuration_cache,
)
from slurm_provider.cli.output import moment
from slurm_provider.cli.site_probe import probe_site
from slurm_provider.errors import ConfigError
from slurm_provider.fleet.verdicts import test_node_types, told_once
from slurm_provider.ray_schema import placed
from slurm_provider.slurm import SlurmMissing
from slurm_provider.transport import TransportError

_COLOURS = {OK: "green", PROBLEM: "red", SKIPPED: "yellow", WARNING: "yellow"}
_WRITABLE = "set it to a folder that you may write to, on a file system that all hosts share"
_CHANGE = "change node_config (or provider.defaults)"


@click.command()
@config_argument
@click.option("--no-job", is_flag=True, help="Leave out what needs a short job on a host.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=1), default=600, show_default=True,
    metavar="SECONDS", help="How long to wait for that job.",
)  # fmt: skip
def check(config_path: str, cluster_name: str | None, no_job: bool, timeout_s: float) -> None:
    """Check the site against CONFIG; exit code 1 if there is a problem.

    Part of it is a job of a few seconds with the head's options (a second one on another host, if
    one is free). It is cancelled, and its folder removed, also on Ctrl-C.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    problems = 0
    for finding in _check(config_path, cluster_name, None if no_job else timeout_s):
        _echo(finding)
        problems += finding.outcome == PROBLEM
    if problems:
        click.echo(f"\n{problems} problem{'s' if problems != 1 else ''}.")
        sys.exit(1)


def _check(
    config_path: str, cluster_name: str | None, timeout_s: float | None
) -> Iterator[Finding]:
    """The findings as they come; what cannot be tried after a problem is left out."""
    try:
        file = load(config_path, cluster_name)
        _check_ray_schema(file.config, config_path)
    except ConfigError as error:
        yield Finding("configuration", PROBLEM, sentence(error), "mend the file")
        return
    types = ", ".join(file.node_types)
    yield Finding("configuration", OK, f"cluster {file.cluster.name}, node types {types}")
    yield configuration_cache(config_cache.is_avoided())
    try:
        site = file.cluster.client.config()
        file.cluster.client.queue()
    except EXPECTED as error:
        yield Finding("Slurm", PROBLEM, sentence(error), _slurm_todo(error))
        return
    label = file.cluster.transport.label
    yield Finding("Slurm", OK, f"version {site.version}, cluster {site.cluster_name}, from {label}")
    verdicts = yield from _guarded("node types", file, lambda: _node_types(file))
    if not verdicts:
        return
    if timeout_s is None:
        yield Finding("job on a host", SKIPPED, "--no-job")
        return
    progress = _Progress()
    yield from _guarded("job on a host", file, lambda: _probe(file, timeout_s, progress))


def _slurm_todo(error: BaseException) -> str:
    if isinstance(error, TransportError | SlurmMissing) or isinstance(
        error.__cause__, TransportError
    ):
        return "check provider.ssh, which says where Slurm's commands are (without it: here)"
    return "try `scontrol ping` there; SLURM_CONF must name the site's slurm.conf"


def _guarded(what: str, file: ClusterFile, find: Callable[[], Iterable[Finding]]) -> Any:
    """Yield what ``find`` finds, or the expected error it ends with; True if all is well."""
    try:
        found = find()
    except OSError as error:  # all that is written is beside the cluster's folder
        words = (
            f"provider.cluster_dir {file.cluster.store.paths.root}: nothing can be written beside "
            f"it: {error.strerror}"
        )
        yield Finding(SHARED_FOLDER, PROBLEM, words if error.strerror else str(error), _WRITABLE)
        return False
    except EXPECTED as error:
        yield Finding(what, PROBLEM, sentence(error), "mend this first, then check again")
        return False
    fine = True
    for finding in found:
        fine = fine and finding.outcome != PROBLEM
        yield finding
    return fine


def _node_types(file: ClusterFile) -> list[Finding]:
    found = []
    verdicts = test_node_types(file.cluster, file.config)
    for verdict in verdicts:
        what = f"node type {verdict.node_type}"
        if verdict.problem is None:
            start = moment(verdict.expected_start)
            text = "accepted by Slurm" + (f", would start at {start}" if start else "")
            found.append(Finding(what, OK, text))
            found += [Finding(what, WARNING, words) for words in verdict.warnings]
    for names, verdict in told_once(verdicts):
        todo = "wait, or ask for something else" if verdict.transient else _CHANGE
        found.append(Finding(names, PROBLEM, str(verdict.problem), todo))
    return found


def _probe(file: ClusterFile, timeout_s: float, progress: _Progress) -> list[Finding]:
    try:
        return probe_site(file, timeout_s, progress.show)
    finally:
        progress.end()


def _check_ray_schema(config: dict[str, Any], path: str) -> None:
    """What Ray itself will refuse: unknown keys, text for a number. Raises ConfigError.

    Without importing Ray, which takes longer than all else here.
    """
    ray = find_spec("ray")
    if ray is None or not ray.submodule_search_locations:
        return
    import jsonschema  # type: ignore[import-untyped]

    text = Path(ray.submodule_search_locations[0], "autoscaler", "ray-schema.json").read_text()
    try:
        jsonschema.validate(config, json.loads(text))
    except jsonschema.ValidationError as error:
        raise ConfigError(f"{path}: {placed(error)}") from None


def _echo(finding: Finding) -> None:
    outcome = click.style(f"{finding.outcome:<9}", fg=_COLOURS[finding.outcome])
    first, *rest = finding.detail.splitlines() or [""]
    click.echo(f"{outcome}{finding.what}: {first}")
    for line in rest:
        click.echo(f"           {line}")
    if finding.todo:
        click.echo(f"           -> {finding.todo}")


class _Progress:
    """The job's state while it waits: one line kept fresh on a terminal, else each change."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, words: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{words}", nl=False, err=True)
        elif words != self._shown:
            click.echo(words, err=True)
        self._shown = words

    def end(self) -> None:
        if self._shown and sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)
