"""``ray-slurm dashboard``: Ray's dashboard in a browser here, with the token handled."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from slurm_provider.access import NodeAccess
from slurm_provider.cli.arguments import cluster_name_option
from slurm_provider.cli.cluster_file import load
from slurm_provider.cli.dashboard_gate import Gate, Target
from slurm_provider.cluster import Cluster
from slurm_provider.errors import ClusterError, ConfigError
from slurm_provider.head_watch import HeadWatch
from slurm_provider.overview import made_cluster
from slurm_provider.slurm.errors import SlurmError
from slurm_provider.transport.base import TransportError
from slurm_provider.transport.ssh_settings import parse_jump
from slurm_provider.transport.tunnel import Tunnel

_READY_TIMEOUT_S = 30.0
_POLL_S = 0.2
_LONGEST_DELAY_S = 15.0


@click.command()
@click.argument("config_path", metavar="[CONFIG]", required=False, type=click.Path())
@cluster_name_option
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="On this machine; default: a free one."
)
@click.option(
    "--cluster-dir", metavar="DIR", help="In place of CONFIG: the cluster's folder on its hosts."
)
@click.option(
    "--ssh", metavar="[USER@]HOST[:PORT]", help="With --cluster-dir: the edge node, if not here."
)
@click.option("--key-path", metavar="FILE", help="With --ssh: the private key.")
@click.option("--jump-host", metavar="HOSTS", help="With --ssh: hosts on the way.")
@click.option("--known-hosts", metavar="FILE", help="With --ssh: host keys.")
@click.option("--ssh-config", metavar="FILE", help="With --ssh: in place of ~/.ssh/config.")
@click.option("--host-key-policy", metavar="POLICY", help="With --ssh: for unknown host keys.")
def dashboard(
    config_path: str | None,
    cluster_name: str | None,
    port: int,
    cluster_dir: str | None,
    **ssh: str | None,
) -> None:
    """Open the way to Ray's dashboard and print a link for a browser, until Ctrl-C.

    The link works once and then lets that browser in, nobody else; a new one is printed. The
    cluster's token stays here. A connection that breaks is opened again.
    """
    if (config_path is None) == (cluster_dir is None):
        raise click.UsageError("give either CONFIG or --cluster-dir")
    if config_path is not None:
        if any(ssh.values()):
            raise click.UsageError("with CONFIG, SSH is what its provider.ssh says")
        cluster = load(config_path, cluster_name).cluster
    else:
        assert cluster_dir is not None
        cluster = _by_folder(cluster_dir, cluster_name, ssh)
    way = _Way(cluster)
    way.open()
    try:
        with contextlib.closing(Gate(way.target, port)) as gate:
            _stay(cluster, way, gate)
    except KeyboardInterrupt:
        click.echo()
    finally:
        way.close()


def _by_folder(folder: str, name: str | None, ssh: Mapping[str, str | None]) -> Cluster:
    section: dict[str, Any] = {"cluster_dir": folder}
    given = {key: value for key, value in ssh.items() if value is not None}
    place = given.pop("ssh", None)
    if place is not None:
        try:
            user, host, port = parse_jump(place)
        except ValueError:
            raise ConfigError(f"--ssh {place!r} is not of the form user@host:port") from None
        if "ssh_config" in given:
            given["config_path"] = given.pop("ssh_config")
        section["ssh"] = {"host": host, "user": user, "port": port, **given}
    elif given:
        raise click.UsageError(f"--{next(iter(given)).replace('_', '-')} goes with --ssh")
    return Cluster(section, name or os.path.basename(folder.rstrip("/")))


class _Way:
    """The tunnel to the dashboard, opened anew when it broke."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._tunnel: Tunnel | None = None
        self._token: str | None = None
        self._watch: HeadWatch | None = None
        self.head: Mapping[str, Any] = {}

    def open(self) -> None:
        """Raises ClusterError where no head runs; SlurmError, TransportError: perhaps later."""
        self.close()
        self._cluster.forget()  # one that was made anew meanwhile has other jobs
        made_cluster(self._cluster)
        nodes = self._cluster.fleet.nodes()
        head = self._cluster.store.head()
        if head is None or not any(node.node_id == head["node_id"] for node in nodes):
            raise ClusterError(
                f"cluster {self._cluster.name!r} has no running head, so it has no dashboard; "
                "`ray up` starts one"
            )
        self._token = self._cluster.store.token()
        access = NodeAccess(self._cluster, str(head["node_id"]))
        tunnel = access.tunnel(int(head["dashboard_port"]))
        try:
            tunnel.wait_ready(_READY_TIMEOUT_S)
        except BaseException:
            tunnel.close()
            raise
        self._tunnel, self.head = tunnel, head
        self._watch = HeadWatch(self._cluster.store, head)

    @property
    def is_open(self) -> bool:
        is_alive = self._tunnel is not None and self._tunnel.alive
        return is_alive and self._watch is not None and not self._watch.has_moved()

    def target(self) -> Target | None:
        tunnel = self._tunnel
        return Target(tunnel.port, self._token) if tunnel is not None and tunnel.alive else None

    def close(self) -> None:
        if self._tunnel is not None:
            self._tunnel.close()
            self._tunnel = None


def _stay(cluster: Cluster, way: _Way, gate: Gate) -> None:
    job = f"Slurm job {way.head['job_id']}" if way.head["job_id"] else "on the edge node"
    click.echo(f"Ray dashboard of cluster {cluster.name}, head on {way.head['host']} ({job})")
    if "SSH_CONNECTION" in os.environ:
        click.echo(
            f"For a browser on the machine you come from, first run there: "
            f"ssh -L {gate.port}:127.0.0.1:{gate.port} {socket.gethostname()}"
        )
    shown = ""
    delays = _delays()
    while True:
        if gate.link != shown:
            lead = "Opened; for another browser" if shown else "Open (works once)"
            shown = gate.link
            click.echo(f"{lead}: {click.style(shown, bold=True)}")
            if lead.startswith("Open "):
                click.echo("Ctrl-C ends it.")
        if not way.is_open:
            try:
                way.open()
                delays = _delays()
                click.echo("The connection to the head is back.")
            except (TransportError, SlurmError) as error:
                delay_s = next(delays)
                click.echo(f"No connection to the head ({error}); trying again in {delay_s:g} s")
                time.sleep(delay_s)
        time.sleep(_POLL_S)


def _delays() -> Iterator[float]:
    delay_s = 1.0
    while True:
        yield delay_s
        delay_s = min(_LONGEST_DELAY_S, delay_s * 2)
