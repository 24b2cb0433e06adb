"""Ray's own command line, with a home and a temporary folder of its own for the dashboard.

Before it answers anybody, Ray's dashboard looks for ``~/ray_bootstrap_config.yaml``. Where there is
none, it asks the metadata services of three clouds where it runs, inside its event loop: on a host
without DNS, or with a firewall that is silent, that takes up to 12 s (measured with Ray 2.60), also
with usage statistics off. The user's home is no place for that file, as clusters would share it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from slurm_provider.agent.ray_start import option_value

_CONFIG = "ray_bootstrap_config.yaml"
_CONTENT = "provider: {type: external}\n"  # what the dashboard would report; no more of the user's
_STATISTICS = "RAY_USAGE_STATS_CONFIG_PATH"  # holds the user's "no" to them


def run(ray: str, arguments: Sequence[str], folder: str) -> int:
    """Be ``ray ARGUMENTS``; ``folder`` is where the dashboard's home is made.

    ``ray`` is executed where it belongs to another interpreter than this.
    """
    if os.path.dirname(os.path.realpath(ray)) != os.path.join(os.path.realpath(sys.prefix), "bin"):
        os.execv(ray, [ray, *arguments])
    from ray.scripts.scripts import main

    _give_home(os.path.join(folder, "dashboard-home"), option_value(arguments, "--temp-dir"))
    sys.argv = [ray, *arguments]
    main()
    return 0


def _give_home(home: str, temp_dir: str | None) -> None:
    from ray._private import ray_constants, services

    start: Any = getattr(services, "start_ray_process", None)
    dashboard = getattr(ray_constants, "PROCESS_TYPE_DASHBOARD", None)
    if start is None or dashboard is None:
        return  # a Ray that is built otherwise starts as it is
    os.makedirs(home, mode=0o700, exist_ok=True)
    with open(os.path.join(home, _CONFIG), "w") as file:
        file.write(_CONTENT)
    default = os.path.expanduser("~/.ray/config.json")
    variables = {"HOME": home, _STATISTICS: os.environ.get(_STATISTICS, default)}
    if temp_dir is not None:
        # It leaves a folder of sockets behind. Ray's own paths of sockets below are longer.
        variables["TMPDIR"] = temp_dir

    def start_at_home(command: Any, process_type: str, *args: Any, **options: Any) -> Any:
        if process_type == dashboard:
            options["env_updates"] = {**(options.get("env_updates") or {}), **variables}
        return start(command, process_type, *args, **options)

    services.start_ray_process = start_at_home
