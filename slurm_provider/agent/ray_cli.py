"""Ray's own command line, with two of its processes started as a shared, slow host needs it.

*The dashboard* gets a home and a temporary folder of its own. Before it answers anybody, it looks
for ``~/ray_bootstrap_config.yaml``. Where there is none, it asks the metadata services of three
clouds where it runs, inside its event loop: on a host without DNS, or with a firewall that is
silent, that takes up to 12 s (measured with Ray 2.60), also with usage statistics off. The user's
home is no place for that file, as clusters would share it.

*The raylet* finds the port of its dashboard agent in a file. It aborts after a fixed 15 s without
that file (ray-project/ray#65983), which the agent writes after a large Python import: on a busy
host the start of Ray failed by it. The port is the one that we chose, so it is known before.

*The raylet of a worker with TLS* announces no port of its agent. The dashboard would ask there for
the log of a job whose driver runs on the worker, by HTTP, which Ray's TLS does not cover: the token
would cross the network in clear. Ray's command line has no option for that, and without the agent
other logs of the node could not be read (`ray logs`, which uses TLS).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from slurm_provider.agent.ray_start import option_value

_CONFIG = "ray_bootstrap_config.yaml"
_CONTENT = "provider: {type: external}\n"  # what the dashboard would report; no more of the user's
_STATISTICS = "RAY_USAGE_STATS_CONFIG_PATH"  # holds the user's "no" to them
_NO_AGENT_PORT = "--dashboard_agent_listen_port=-1"  # Ray's own word for an agent without one
_LISTEN_PORT = re.compile(r"--listen-port=([1-9][0-9]*)")


def run(ray: str, arguments: Sequence[str], folder: str) -> int:
    """Be ``ray ARGUMENTS``; ``folder`` is where the dashboard's home is made.

    ``ray`` is executed as it is where it belongs to another interpreter than this.
    """
    if not is_of_this_interpreter(ray):
        os.execv(ray, [ray, *arguments])
    from ray.scripts.scripts import main

    adapt_starts(arguments, folder)
    sys.argv = [ray, *arguments]
    main()
    return 0


def is_of_this_interpreter(ray: str) -> bool:
    """Whether a program `ray` and this Python belong to one environment."""
    return os.path.dirname(os.path.realpath(ray)) == os.path.join(
        os.path.realpath(sys.prefix), "bin"
    )


def adapt_starts(arguments: Sequence[str], folder: str) -> None:
    """Let this process, which is ``ray ARGUMENTS``, start Ray's dashboard and raylet as the
    module's text says.

    A Ray that is built otherwise starts as it is, but with TLS not at all (AttributeError).
    """
    from ray._private import ray_constants, services

    home, temp_dir = os.path.join(folder, "dashboard-home"), option_value(arguments, "--temp-dir")
    hides_agent = os.environ.get("RAY_USE_TLS") == "1" and "--head" not in arguments
    start: Any = getattr(services, "start_ray_process", None)
    dashboard = getattr(ray_constants, "PROCESS_TYPE_DASHBOARD", None)
    raylet = getattr(ray_constants, "PROCESS_TYPE_RAYLET", None)
    if hides_agent:
        start, raylet = services.start_ray_process, ray_constants.PROCESS_TYPE_RAYLET
    if start is None:
        return

    def start_adapted(command: Any, process_type: str, *args: Any, **options: Any) -> Any:
        if process_type == dashboard:
            options["env_updates"] = {
                **(options.get("env_updates") or {}),
                **_home_variables(home, temp_dir),
            }
        elif process_type == raylet and hides_agent:
            command = [*command, _NO_AGENT_PORT]  # the last one counts
        elif process_type == raylet:
            _write_agent_port(command)
        return start(command, process_type, *args, **options)

    services.start_ray_process = start_adapted


def _home_variables(home: str, temp_dir: str | None) -> dict[str, str]:
    os.makedirs(home, mode=0o700, exist_ok=True)
    with open(os.path.join(home, _CONFIG), "w") as file:
        file.write(_CONTENT)
    default = os.path.expanduser("~/.ray/config.json")
    variables = {"HOME": home, _STATISTICS: os.environ.get(_STATISTICS, default)}
    if temp_dir is not None:
        # It leaves a folder of sockets behind. Ray's own paths of sockets below are longer.
        variables["TMPDIR"] = temp_dir
    return variables


def _write_agent_port(raylet: Sequence[str]) -> None:
    """``raylet`` is its command line. The agent writes the same file again when it listens."""
    from ray import _raylet

    persist: Any = getattr(_raylet, "persist_port", None)
    name = getattr(_raylet, "DASHBOARD_AGENT_LISTEN_PORT_NAME", None)
    folder, node_id = option_value(raylet, "--session_dir"), option_value(raylet, "--node_id")
    port = _LISTEN_PORT.search(" ".join(raylet))
    if persist is None or name is None or port is None or folder is None or node_id is None:
        return  # a Ray whose raylet waits for no file, or in another way
    try:
        persist(folder, node_id, name, int(port.group(1)))
    except Exception as error:  # Ray's own function; without the file the start is only slower
        print(f"[agent] the dashboard agent's port was not written: {error}", flush=True)
