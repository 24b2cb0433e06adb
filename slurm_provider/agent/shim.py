"""What ``ray start`` and ``ray stop`` mean on a node (see ``job_scripts/ray``)."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

from slurm_provider.agent import earlier_ray, ray_cli
from slurm_provider.agent.files import read_json, write_json
from slurm_provider.agent.network import NetworkError, own_address
from slurm_provider.agent.processes import is_alive
from slurm_provider.agent.ray_start import merge, option_value

_ADDRESS = "--node-ip-address"
_STOP_TIMEOUT_S = 20.0


def start(arguments: Sequence[str]) -> int:
    """``ray start --head`` of `ray up`, with the node's own ports, folders and resources added."""
    folder = os.environ["RAY_SLURM_NODE"]
    options = read_json(os.path.join(folder, "ray-options.json"))
    if options is None or "--head" not in arguments:
        print(
            "ray start: this node is managed by Slurm; the autoscaler starts its workers "
            "(see `ray status`)",
            file=sys.stderr,
        )
        return 2
    if os.environ.get("RAY_enable_autoscaler_v2") != "1":  # noqa: SIM112 -- Ray's own spelling
        print(
            "ray start: Slurm needs autoscaler v2: v1 tells nodes apart by IP address, and two "
            "nodes on one host destroy such a cluster. Unset RAY_UP_enable_autoscaler_v2 and run "
            "`ray up` again.",
            file=sys.stderr,
        )
        return 2
    merged = merge(arguments, options, os.environ["RAY_SLURM_CONFIG"])
    named, address = option_value(merged, _ADDRESS), str(options[_ADDRESS])
    if named is not None and named != address:
        try:
            address = own_address(named, default=address)
        except NetworkError as error:
            print(f"ray start: {_ADDRESS}: {error}", file=sys.stderr)
            return 2
        merged.append(f"{_ADDRESS}={address}")  # the last one counts
    write_json(
        os.path.join(folder, "ray-started.json"),
        {
            "address": address,
            "port": option_value(merged, "--port"),
            "temp_dir": option_value(merged, "--temp-dir"),
            "client_port": option_value(merged, "--ray-client-server-port"),
            "dashboard_host": option_value(merged, "--dashboard-host"),
            "dashboard_port": option_value(merged, "--dashboard-port"),
        },
    )
    return ray_cli.run(os.environ["RAY_SLURM_RAY"], ["start", *merged], folder)


def start_worker(arguments: Sequence[str]) -> int:
    """``ray start ARGUMENTS`` of a worker's agent."""
    ray = os.environ["RAY_SLURM_RAY"]
    if earlier_ray.is_installed() and ray_cli.is_of_this_interpreter(ray):
        return earlier_ray.start_worker(arguments)
    return ray_cli.run(ray, ["start", *arguments], os.environ["RAY_SLURM_NODE"])


def stop() -> int:
    """Stop this node's Ray; ``ray stop`` itself would stop every Ray on the host."""
    report = read_json(os.path.join(os.environ["RAY_SLURM_NODE"], "node.json"))
    if report is None or report.get("state") in ("ready", "ended") or not is_alive(report["pid"]):
        print("Ray is not running on this node.")
        return 0
    os.kill(report["pid"], signal.SIGUSR2)
    if not os.path.exists(os.path.join(os.environ["RAY_SLURM_NODE"], "ray-options.json")):
        # A worker's job ends with its Ray, and Slurm would kill this command while it waits.
        print("Asked this worker to leave.")
        return 0
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        report = read_json(os.path.join(os.environ["RAY_SLURM_NODE"], "node.json"))
        if report is None or report.get("state") in ("ready", "ended"):
            print("Stopped this node's Ray.")
            return 0
        time.sleep(0.1)
    print(f"ray stop: Ray still runs after {_STOP_TIMEOUT_S:.0f} s", file=sys.stderr)
    return 1
