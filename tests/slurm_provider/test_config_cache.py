"""Ray's commands and what another user left in /tmp for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray_slurm_guard

ROOT = Path(__file__).parents[2]
Config = dict[str, Any]
CONFIG: Config = {
    "cluster_name": "demo",
    "max_workers": 0,
    "provider": {
        "type": "external",
        "module": "slurm_provider.SlurmNodeProvider",
        "defaults": {"partition": "compute", "time": "01:00:00"},
    },
    "head_node_type": "head",
    "available_node_types": {"head": {"node_config": {"mem": "2G"}, "resources": {"CPU": 0}}},
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
}
_PROGRAM = f"""
import json, os, site, sys
config, answer, plant, guard = json.loads(sys.argv[1])
if guard:
    site.addsitedir({str(ROOT / "startup")!r})  # where it is installed, Python does this
from ray.autoscaler.sdk import bootstrap_config
from slurm_provider import config_cache
path = bootstrap_config(config, no_config_cache=True)["provider"]["_config_cache_path"]
if plant:
    with open(path, "w") as file:
        json.dump({{"_version": 1, "config": {{"provider": {{"type": "local"}}}}}}, file)
    os.chmod(path, 0o666)
provider = bootstrap_config(config)["provider"]
with open(answer, "w") as file:
    json.dump([provider["type"], path, os.path.exists(path), config_cache.is_avoided()], file)
"""


@dataclass(frozen=True)
class Answer:
    type: str
    path: str
    exists: bool
    is_avoided: bool
    said: str


def resolve_by_ray(
    folder: Path, config: Config, *, plant: bool = False, guard: bool = True
) -> Answer:
    """Ray's `bootstrap_config` in a process of its own, whose shared folder is ``folder``; with
    ``plant``, another user's configuration lies there."""
    answer = folder / "answer"
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps([config, str(answer), plant, guard])],
        capture_output=True, text=True, timeout=120, cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Answer(*json.loads(answer.read_text()), said=done.stderr)


def test_a_planted_configuration_is_not_read_but_named(tmp_path: Path) -> None:
    found = resolve_by_ray(tmp_path, CONFIG, plant=True)
    assert found.type == "external"
    (line,) = [line for line in found.said.splitlines() if found.path in line]
    assert line.startswith(f"Ignored {found.path}") and "may be written by others" in line


def test_without_the_guard_ray_takes_it(tmp_path: Path) -> None:
    """The attack that the guard is for; this Python may have it installed."""
    found = resolve_by_ray(tmp_path, CONFIG, plant=True, guard=False)
    assert found.type == ("external" if found.is_avoided else "local")


def test_no_cache_is_written_and_nothing_said(tmp_path: Path) -> None:
    found = resolve_by_ray(tmp_path, CONFIG)
    assert found.is_avoided
    assert not found.exists
    assert found.path not in found.said


def test_other_providers_keep_their_cache(tmp_path: Path) -> None:
    local = {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []}
    config = {"cluster_name": "demo", "provider": local, "auth": {"ssh_user": "x"}}
    assert resolve_by_ray(tmp_path, config).exists


@pytest.mark.parametrize("config", [None, [], {}, {"provider": None}, {"provider": {"module": 1}}])
def test_what_is_no_configuration_is_left_to_ray(config: Any) -> None:
    asked = []
    wrapped = ray_slurm_guard._without_cache(lambda *a, **k: asked.append((a, k)))
    wrapped(config, no_config_cache=False)
    assert asked == [((config,), {"no_config_cache": False})]


def test_the_guard_finds_other_modules_as_little_as_unusual_loaders_stop_it() -> None:
    finder = ray_slurm_guard._Finder()
    assert finder.find_spec("ray") is None
    ray_slurm_guard._change_when_loaded(object())
