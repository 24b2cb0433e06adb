from __future__ import annotations

import shlex
from typing import Any

import pytest

from dagster_glue.dashboard import dashboard_command, dashboard_metadata
from slurm_provider.transport import SshSettings


def test_without_ssh_the_clusters_folder_is_enough() -> None:
    assert dashboard_command("/home/a b/c", None) == (
        "ray-slurm dashboard --cluster-dir '/home/a b/c'"
    )


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"host": "edge"}, ["--ssh", "edge"]),
        (
            {"host": "10.0.0.1", "user": "u", "port": 2222, "key_path": "/k", "password": "secret"},
            ["--ssh", "u@10.0.0.1:2222", "--key-path", "/k"],
        ),
        ({"host": "::1", "port": 22}, ["--ssh", "[::1]:22"]),
        (
            {"host": "edge", "jump_host": "a, b", "known_hosts": "/kh", "host_key_policy": "off"},
            ["--ssh", "edge", "--jump-host", "a,b", "--known-hosts", "/kh",
             "--host-key-policy", "off"],
        ),
        ({"host": "edge", "config_path": "/etc/s"}, ["--ssh", "edge", "--ssh-config", "/etc/s"]),
        ({"host": "edge", "jump_host": "none"}, ["--ssh", "edge", "--jump-host", "none"]),
    ],
)  # fmt: skip
def test_the_login_is_dagsters_but_for_the_password(
    settings: dict[str, Any], options: list[str]
) -> None:
    words = shlex.split(dashboard_command("/c", SshSettings(**settings)))
    assert words == ["ray-slurm", "dashboard", "--cluster-dir", "/c", *options]


def test_a_dashboard_that_is_gone_gives_no_dead_command() -> None:
    assert "ray-slurm" in dashboard_metadata("ray-slurm x", goes_on=True)["ray_dashboard"].value
    gone = dashboard_metadata("ray-slurm x", goes_on=False)["ray_dashboard"].value
    assert "ray-slurm" not in gone and gone.startswith("gone")
    assert dashboard_metadata(None, goes_on=False) == {}
