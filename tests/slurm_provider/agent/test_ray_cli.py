from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray import _raylet
from ray._common.usage import usage_lib
from ray._private import ray_constants, services

from slurm_provider.agent import ray_cli


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """What Ray's processes get as further variables, by their type."""
    found: dict[str, dict[str, str]] = {}

    def start(command: Any, process_type: str, env_updates: Any = None) -> None:
        found[process_type] = dict(env_updates or {})

    monkeypatch.setattr(services, "start_ray_process", start)
    return found


def test_the_dashboard_finds_a_configuration_in_a_home_of_its_own_and_others_keep_the_users(
    started: dict[str, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask_clouds() -> str:
        raise AssertionError("asked the clouds")

    monkeypatch.setattr(usage_lib, "get_cloud_from_metadata_requests", ask_clouds)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("RAY_USAGE_STATS_CONFIG_PATH", raising=False)

    ray_cli.adapt_starts(["start", "--head", "--temp-dir=/tmp/rs-1/node"], str(tmp_path))
    for process_type in (ray_constants.PROCESS_TYPE_DASHBOARD, ray_constants.PROCESS_TYPE_RAYLET):
        services.start_ray_process([], process_type)

    env = started[ray_constants.PROCESS_TYPE_DASHBOARD]
    found = usage_lib.get_cluster_config_to_report(f"{env['HOME']}/ray_bootstrap_config.yaml")
    assert found.cloud_provider == "external"
    assert env["TMPDIR"] == "/tmp/rs-1/node"  # gone with the node, also what it leaves there
    assert env["RAY_USAGE_STATS_CONFIG_PATH"] == "/home/me/.ray/config.json"
    assert started[ray_constants.PROCESS_TYPE_RAYLET] == {}


def test_a_ray_of_another_interpreter_is_executed_as_it_is(tmp_path: Path) -> None:
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\necho "$@"\n')
    ray.chmod(0o755)
    code = f"from slurm_provider.agent import ray_cli; ray_cli.run({str(ray)!r}, ['a', 'b c'], '')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "a b c\n"


@pytest.mark.skipif(
    not hasattr(_raylet, "persist_port"), reason="the raylet of this Ray waits for no file"
)
def test_the_raylet_finds_its_agents_port_before_it_starts(
    started: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    """By Ray's own function, which waits for the file that the agent writes later."""
    from ray._raylet import DASHBOARD_AGENT_LISTEN_PORT_NAME, wait_for_persisted_port

    node_id = "ab" * 28
    agent = "python agent.py --node-id=x --grpc-port=1 --listen-port=20005 --session-dir=y"
    command = ["raylet", f"--session_dir={tmp_path}", f"--node_id={node_id}",
               f"--dashboard_agent_command={agent}"]  # fmt: skip

    ray_cli.adapt_starts(["start"], str(tmp_path))
    services.start_ray_process(command, ray_constants.PROCESS_TYPE_RAYLET)

    name = DASHBOARD_AGENT_LISTEN_PORT_NAME
    assert wait_for_persisted_port(str(tmp_path), node_id, name, 100) == 20005


@pytest.mark.parametrize("agent", ["python agent.py", "python agent.py --listen-port=0"])
def test_a_raylet_whose_agents_port_is_not_known_starts_as_it_is(
    started: dict[str, dict[str, str]], tmp_path: Path, agent: str
) -> None:
    command = ["raylet", f"--session_dir={tmp_path}", "--node_id=ab",
               f"--dashboard_agent_command={agent}"]  # fmt: skip
    ray_cli.adapt_starts(["start"], str(tmp_path))
    services.start_ray_process(command, ray_constants.PROCESS_TYPE_RAYLET)
    assert list(tmp_path.iterdir()) == []
    assert started == {ray_constants.PROCESS_TYPE_RAYLET: {}}
