"""The checks that need a compute host: a probe in a short job, and a second one beside it."""

from __future__ import annotations

import json
import posixpath
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any

from slurm_provider.agent.probe import greets
from slurm_provider.cli import findings
from slurm_provider.cli.cluster_file import ClusterFile
from slurm_provider.cli.findings import Finding
from slurm_provider.cli.probe_job import ProbeEnded, ProbeJob, ProbeTimeout
from slurm_provider.fleet.launch import activation
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.slurm import SlurmError, SlurmRefused
from slurm_provider.slurm.step import step_argv
from slurm_provider.transport import TransportError

# The second job is a bonus: it is not worth a queue.
_SECOND_TIMEOUT_S = 20.0
_STEP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class _Site:
    """What all checks share."""

    file: ClusterFile
    store: ClusterStore  # of a temporary folder laid out like a cluster's
    code: str
    options: Mapping[str, Any]
    show: Callable[[str], None]

    @property
    def folder(self) -> str:
        return self.store.paths.root

    def job(self, mode: str, options: Mapping[str, Any]) -> ProbeJob:
        return ProbeJob(
            self.file.cluster.client,
            f"{self.folder}/probe.sh",
            [self.folder, self.code, mode],
            options,
            self.log(mode),
        )

    def log(self, mode: str) -> str:
        return f"{self.folder}/{mode}.log"

    def look(self, mode: str) -> Callable[[], dict[str, Any] | None]:
        def look() -> dict[str, Any] | None:
            # Listed first: NFS remembers for a while that a file it was asked for is missing.
            if f"{mode}.json" not in self.store.transport.list_dir(self.folder):
                return None
            values: dict[str, Any] = json.loads(
                self.store.transport.read_file(f"{self.folder}/{mode}.json")
            )
            return values

        return look


def probe_site(file: ClusterFile, timeout_s: float, show: Callable[[str], None]) -> list[Finding]:
    """Run the probe; ``show`` gets the state of its job while it waits.

    Nothing is left behind: the job is cancelled and the folder removed whatever happens.
    Raises SlurmError, TransportError, OSError where the job cannot even be submitted.
    """
    nonce = secrets.token_hex(8)
    with _site(file, nonce, show) as site, site.job("listen", site.options) as job:
        try:
            answer = job.wait(site.look("listen"), timeout_s, show)
        except ProbeEnded as ended:
            return [findings.lost_job(site.folder, ended.words, ended.host, _log(site, "listen"))]
        except ProbeTimeout as late:
            return [
                Finding(
                    "job on a host", findings.PROBLEM, f"no answer in {timeout_s:g} s: {late}",
                    "give it longer (--timeout), or leave these checks out (--no-job)",
                )
            ]  # fmt: skip
        found, log = _findings(site, answer, nonce), _log(site, "listen") or ""
        return [findings.with_output(each, log) for each in found]


def _findings(site: _Site, answer: Mapping[str, Any], nonce: str) -> list[Finding]:
    config = site.file.cluster.config
    head_submits = config.head_placement == "slurm" and config.head_ssh is None
    found = [
        findings.shared_folder(posixpath.dirname(site.folder), answer, nonce),
        findings.environment(answer, ray_here()),
        *findings.tls(answer),
        findings.temporary_folder(answer),
        findings.submitting(answer, needed=head_submits),
        _try_step(site, answer),
        _try_ports(site, answer),
    ]
    if config.head_placement == "edge":
        detail = f"not tried; nodes must reach the edge node at TCP {config.ports}"
        found.append(Finding("ports to the edge node", findings.SKIPPED, detail))
    return found


def _try_step(site: _Site, answer: Mapping[str, Any]) -> Finding:
    clusters = site.file.cluster.slurm_cluster
    argv = step_argv(str(answer["job_id"]), ["true"], cpus=1, clusters=clusters)
    done = site.file.cluster.transport.run(argv, timeout_s=_STEP_TIMEOUT_S)
    return findings.commands(str(answer["host"]), done.returncode, done.stderr)


def _try_ports(site: _Site, answer: Mapping[str, Any]) -> Finding:
    if "network_problem" in answer:
        return findings.network_problem(answer)
    second = _second_host(site, str(answer["host"]))
    reaches = second is None and _edge_reaches(site, answer)
    return findings.ports_between(answer, second, reaches, site.file.cluster.config.ports)


def _second_host(site: _Site, first_host: str) -> dict[str, Any] | None:
    """The answer of a probe on another host; None where none is to be had soon."""
    if "nodelist" in site.options:
        return None
    excluded = ",".join(filter(None, (str(site.options.get("exclude", "")), first_host)))
    job = site.job("connect", {**site.options, "exclude": excluded})
    try:
        verdict = site.file.cluster.client.test_only(job.submission)
        soon = verdict.expected_start is None or verdict.expected_start < time.time() + 60
        if not verdict.accepted or not soon:
            return None
        with job:
            return job.wait(site.look("connect"), _SECOND_TIMEOUT_S, site.show)
    except (ProbeEnded, ProbeTimeout, SlurmRefused):
        return None
    except SlurmError as error:
        if error.transient:
            return None
        raise


def _edge_reaches(site: _Site, answer: Mapping[str, Any]) -> bool:
    try:
        connection = site.file.cluster.transport.open_connection(answer["address"], answer["port"])
    except TransportError:
        return False
    try:
        return greets(connection)
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def _site(file: ClusterFile, nonce: str, show: Callable[[str], None]) -> Iterator[_Site]:
    """The probe's folder beside the cluster's, so on the same file system."""
    cluster = file.cluster
    transport = cluster.store.transport
    store = ClusterStore(transport, f"{cluster.store.paths.root}.check-{secrets.token_hex(4)}")
    folder = store.paths.root
    try:
        code = store.install_code()
        probe = (resources.files("slurm_provider") / "job_scripts" / "probe.sh").read_bytes()
        transport.write_file(f"{folder}/probe.sh", probe, mode=0o700)
        lines = activation(cluster.config.environment, store.unpack_script)
        transport.write_file(f"{folder}/activate", lines.encode())
        site = _Site(file, store, code, _options(file), show)
        transport.write_file(f"{folder}/spec.json", json.dumps(_spec(site, nonce)).encode())
        yield site
    finally:
        transport.remove_tree(folder)


def _spec(site: _Site, nonce: str) -> dict[str, Any]:
    config = site.file.cluster.config
    trial = site.job("listen", site.options).submission
    return {
        "nonce": nonce,
        "ports": list(config.port_range),
        "network": config.network,
        "temp_dir": config.temp_dir,
        "tls": config.tls,
        "clusters": site.file.cluster.slurm_cluster,
        "script": trial.script,
        "options": dict(trial.options),
        "provider_options": dict(trial.provider_options),
    }


def _options(file: ClusterFile) -> Mapping[str, Any]:
    """The sbatch options of the head, or of the first worker type if the head is no job."""
    name = file.head_type
    if file.cluster.config.head_placement == "edge":
        name = next((other for other in file.node_types if other != name), name)
    options: Mapping[str, Any] = file.node_types[name]["node_config"]
    return options


def _log(site: _Site, mode: str) -> str | None:
    try:
        return site.store.transport.read_file(site.log(mode)).decode(errors="replace")
    except FileNotFoundError:
        return None


def ray_here() -> str | None:
    """The version of Ray beside this program, without importing it."""
    try:
        return metadata.version("ray")
    except metadata.PackageNotFoundError:
        return None
