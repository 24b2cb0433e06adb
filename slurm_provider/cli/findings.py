"""What the site check found: answers of the probe's jobs into lines for a person (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from slurm_provider.requirements import OLDEST_RAY, version_tuple

OK = "ok"
PROBLEM = "problem"
SKIPPED = "skipped"
WARNING = "warning"

CONFIGURATION_CACHE = "configuration cache"
SHARED_FOLDER = "shared folder"
ENVIRONMENT = "environment"
TLS = "TLS between nodes"
TEMPORARY = "temporary folder"
SUBMITTING = "submitting from nodes"
COMMANDS = "commands on nodes"
PORTS = "ports between nodes"


_PRINTED_LINES = 5


@dataclass(frozen=True)
class Finding:
    """One line: ``outcome`` is OK, PROBLEM (with what to do), SKIPPED, or WARNING (it may work)."""

    what: str
    outcome: str
    detail: str
    todo: str = ""


def configuration_cache(avoided: bool) -> Finding:
    """Whether other users of this machine can leave Ray's commands a configuration."""
    if avoided:
        return Finding(CONFIGURATION_CACHE, OK, "Ray's commands here do without it")
    return Finding(
        CONFIGURATION_CACHE,
        WARNING,
        "Ray's commands here read it from a folder that other users may write to; a file that "
        "is not yours is refused, but only after Ray has read it",
        "install this package with pip (a copy or PYTHONPATH leaves out ray_slurm_guard.pth), or "
        "set TMPDIR to a folder of your own",
    )


def shared_folder(folder: str, answer: Mapping[str, Any], nonce: str) -> Finding:
    """A host read what the edge node wrote, and the edge node read the host's answer."""
    if answer["nonce"] != nonce:
        return Finding(
            SHARED_FOLDER, PROBLEM, f"{answer['host']} sees other files in {folder}", _SHARE_IT
        )
    return Finding(SHARED_FOLDER, OK, f"{folder} is the same on {answer['host']}")


def lost_job(folder: str, words: str, host: str, log: str | None) -> Finding:
    """The job ended without an answer. ``log`` is what it printed, None where nothing came back."""
    if log is None:
        return Finding(
            SHARED_FOLDER,
            PROBLEM,
            f"the job {words} on {host or 'a host'}, and nothing of it appeared in {folder}",
            _SHARE_IT,
        )
    last = "\n".join(log.strip().splitlines()[-5:]) or "it printed nothing"
    return Finding(
        ENVIRONMENT,
        PROBLEM,
        f"the job {words} on {host or 'a host'} before Python ran: {last}",
        "mend provider.environment: its lines run in a login shell on the host",
    )


def environment(answer: Mapping[str, Any], ray_here: str | None) -> Finding:
    """Ray on a node, compared with the one of this command's Python."""
    host, path = answer["host"], answer["ray_path"]
    if path is None:
        return Finding(
            ENVIRONMENT,
            PROBLEM,
            f"there is no ray on PATH of {host} (PATH is {answer['path']})",
            "set provider.environment.prefix to the folder of an environment with ray, "
            "or activate to the lines that put it on PATH",
        )
    if "ray_problem" in answer:
        return Finding(
            ENVIRONMENT,
            PROBLEM,
            f"`{path} --version` failed on {host}: {answer['ray_problem']}",
            "mend that environment; try the same command in an srun on the host",
        )
    version = answer["ray_version"]
    found = f"Ray {version}, Python {answer['python_version']} on {host} ({path})"
    if version_tuple(version) < OLDEST_RAY:
        oldest = ".".join(str(part) for part in OLDEST_RAY)
        return Finding(
            ENVIRONMENT, PROBLEM, f"{found}: too old", f"install ray[default]>={oldest} there"
        )
    if ray_here is not None and ray_here != version:
        return Finding(
            ENVIRONMENT,
            PROBLEM,
            f"{found}, but Ray {ray_here} here",
            "install the same version of Ray in both places",
        )
    return Finding(ENVIRONMENT, OK, found)


def with_output(found: Finding, printed: str) -> Finding:
    """Of the environment also what its activation printed: a line of it may have failed, of which
    only the last one's exit code tells."""
    lines = printed.strip().splitlines()[-_PRINTED_LINES:]
    if found.what != ENVIRONMENT or not lines:
        return found
    said = "\n".join(["its activation printed:", *(f"| {line}" for line in lines)])
    return replace(found, detail=f"{found.detail}\n{said}")


def tls(answer: Mapping[str, Any]) -> list[Finding]:
    """Whether nodes can make certificates; nothing where they need none."""
    if "tls_problem" not in answer:
        return []
    problem = answer["tls_problem"]
    if problem is None:
        return [Finding(TLS, OK, f"{answer['host']} can make certificates")]
    return [Finding(TLS, PROBLEM, problem, "change provider.environment, or remove provider.tls")]


def temporary_folder(answer: Mapping[str, Any]) -> Finding:
    """The place for Ray's session folder on the host."""
    host, problem = answer["host"], answer["temp_problem"]
    if problem is None:
        return Finding(TEMPORARY, OK, f"Ray's session folder fits on {host}")
    return Finding(TEMPORARY, PROBLEM, f"on {host}: {problem}", "change provider.temp_dir")


def submitting(answer: Mapping[str, Any], *, needed: bool) -> Finding:
    """``needed``: the head is a job and has no other way to Slurm (provider.head_ssh)."""
    problem = answer["submit_problem"]
    if problem is None:
        return Finding(SUBMITTING, OK, f"{answer['host']} may list and submit jobs")
    detail = f"{answer['host']} may not: {problem}"
    if not needed:
        return Finding(SUBMITTING, OK, f"{detail}; not needed with this configuration")
    return Finding(
        SUBMITTING,
        PROBLEM,
        detail,
        "set provider.head_ssh to a host that may, as seen from compute nodes; "
        "or provider.head_placement: edge",
    )


def commands(host: str, exit_code: int, stderr: str) -> Finding:
    """An srun into the running job, as `ray exec` and `ray attach` do it."""
    if exit_code == 0:
        return Finding(COMMANDS, OK, f"srun reaches a running job on {host}")
    return Finding(
        COMMANDS,
        PROBLEM,
        f"srun into a job on {host} ended with exit code {exit_code}: {stderr.strip()}",
        "`ray exec`, `ray attach` and `ray submit` need it: ask the site's support why "
        "`srun --jobid=... --overlap` fails",
    )


def network_problem(answer: Mapping[str, Any]) -> Finding:
    """The host has no address or port as configured."""
    return Finding(
        PORTS, PROBLEM, answer["network_problem"], "change provider.network or provider.ports"
    )


def ports_between(
    answer: Mapping[str, Any], second: Mapping[str, Any] | None, edge_reaches: bool, ports: str
) -> Finding:
    """``second`` is the answer of a job on another host, None if none started in time."""
    target = f"{answer['host']} ({answer['address']}:{answer['port']})"
    if second is not None and second["connected"]:
        return Finding(PORTS, OK, f"{second['host']} reaches {target}")
    if second is not None:
        return Finding(
            PORTS,
            PROBLEM,
            f"{second['host']} does not reach {target}: {second['problem']}",
            f"open TCP {ports} between compute nodes, or choose other provider.ports, "
            "or an interface that connects them (provider.network)",
        )
    if edge_reaches:
        return Finding(
            PORTS, OK, f"the edge node reaches {target}; no second host was free to try from"
        )
    return Finding(
        PORTS,
        SKIPPED,
        f"no second host was free to try from; the edge node does not reach {target}, which it "
        "need not",
    )


_SHARE_IT = (
    "set provider.cluster_dir to a folder on a file system that the edge node and all compute "
    "hosts share"
)
