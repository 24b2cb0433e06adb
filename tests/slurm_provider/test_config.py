"""The `provider:` section: every refusal names key, value and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from slurm_provider.config import (
    EnvironmentConfig,
    ProviderConfig,
    SshConfig,
    markdown_table,
    parse_provider,
)
from slurm_provider.errors import ConfigError


def test_an_empty_section_is_complete() -> None:
    config = parse_provider({})
    assert config.port_range == (20000, 32767)
    assert config.auth == "token"
    assert config.head_placement == "slurm"
    assert config.ssh is None
    assert config.environment == EnvironmentConfig(activate=None, prefix=None, archive=None)


def test_rays_own_keys_and_our_private_ones_are_left_alone() -> None:
    parse_provider(
        {"type": "external", "module": "slurm_provider.SlurmNodeProvider", "_on_head": True,
         "disable_node_updaters": True, "_config_cache_path": "/tmp/x", "_nodes": {}}
    )  # fmt: skip


def test_defaults_are_strict_where_it_matters() -> None:
    config = parse_provider({"ssh": {"host": "login.site.org"}})
    assert config.ssh is not None and config.ssh.host_key_policy == "strict"


REFUSALS: list[tuple[dict[str, Any], list[str]]] = [
    # (section, what the message must contain)
    ({"cluster_dirs": "/x"}, ["provider.cluster_dirs", "'cluster_dir'"]),
    ({"xyzzy": 1}, ["provider.xyzzy", "cluster_dir", "keep_logs"]),
    ({"environment": {"activat": "x"}}, ["provider.environment.activat", "'activate'"]),
    ({"ssh": {"host": "a", "keypath": "x"}}, ["provider.ssh.keypath", "'key_path'"]),
    ({"head_ssh": {"host": "a", "usr": "x"}}, ["provider.head_ssh.usr", "'user'"]),
    ({"environment": {"activate": "a", "prefix": "/b"}},
     ["provider.environment", "activate", "prefix", "one of"]),
    ({"environment": {"prefix": "/a", "archive": "/b"}},
     ["provider.environment", "prefix and archive"]),
    ({"environment": "source x"}, ["provider.environment", "dictionary", "'source x'"]),
    ({"ssh": {}}, ["provider.ssh.host", "required"]),
    ({"ssh": {"host": "a", "host_key_policy": "yes"}},
     ["provider.ssh.host_key_policy", "'strict'", "'accept-new'", "'off'", "'yes'"]),
    ({"auth": "none"}, ["provider.auth", "'token'", "'disabled'", "'none'"]),
    ({"env": {"RAY_USE_TLS": "0", "RAY_TLS_CA_CERT": "/x"}, "tls": True},
     ["provider.tls", "RAY_TLS_CA_CERT, RAY_USE_TLS", "provider.env", "True"]),
    ({"tls": "yes please"}, ["provider.tls", "boolean", "'yes please'"]),
    ({"head_placement": "cloud"}, ["provider.head_placement", "'slurm'", "'edge'", "'cloud'"]),
    ({"ports": "20000"}, ["provider.ports", "low-high", "'20000'"]),
    ({"ports": "20000-20100"}, ["provider.ports", "512 ports wide", "'20000-20100'"]),
    ({"ports": "80-8080"}, ["provider.ports", "between 1024 and 65535", "'80-8080'"]),
    ({"ports": "60000-70000"}, ["provider.ports", "65535", "'60000-70000'"]),
    ({"ports": 20000}, ["provider.ports", "string", "20000"]),
    ({"ray_start_options": {"--num-cpus": "1"}},
     ["provider.ray_start_options", "'--num-cpus'", "without dashes"]),
    ({"ray_start_options": {"num-cpus": [1]}},
     ["provider.ray_start_options.num-cpus", "string or a number"]),
    ({"env": {"OMP_NUM_THREADS": [4]}},
     ["provider.env.OMP_NUM_THREADS", "text in quotes"]),
    ({"max_pending": 0}, ["provider.max_pending", "greater than or equal to 1", "0"]),
    ({"pending_idle_timeout_s": -1}, ["provider.pending_idle_timeout_s", "equal to 0", "-1"]),
    ({"drain_lead_s": 5}, ["provider.drain_lead_s", "equal to 10", "5"]),
    ({"head_timeout_s": 1}, ["provider.head_timeout_s", "equal to 5", "1"]),
    ({"autoscaler_interval_s": 0}, ["provider.autoscaler_interval_s", "equal to 1", "0"]),
    ({"object_store_memory_mb": 10}, ["provider.object_store_memory_mb", "equal to 80", "10"]),
    ({"temp_dir": "scratch"}, ["provider.temp_dir", "absolute path", "'scratch'"]),
    ({"temp_dir": "/scratch/" + "x" * 30}, ["provider.temp_dir", "39 bytes", "23 are left"]),
    ({"keep_logs": "perhaps"}, ["provider.keep_logs", "boolean", "'perhaps'"]),
]  # fmt: skip


@pytest.mark.parametrize(("section", "parts"), REFUSALS, ids=[str(r[0]) for r in REFUSALS])
def test_a_refusal_names_the_key_the_value_and_what_is_allowed(
    section: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_provider(section)
    (line,) = str(refused.value).splitlines()
    for part in parts:
        assert part in line


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_provider({"auth": "none", "keep_log": True, "ssh": {"port": "x"}})
    assert len(str(refused.value).splitlines()) == 4  # ssh.host is missing, too


def test_a_configuration_cannot_be_changed_afterwards() -> None:
    config = parse_provider({})
    with pytest.raises(ValueError, match="frozen"):
        config.auth = "disabled"


def test_the_reference_table_lists_every_key_once_with_its_help() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", markdown_table(), flags=re.MULTILINE)
    expected = set(ProviderConfig.model_fields)
    expected |= {f"environment.{name}" for name in EnvironmentConfig.model_fields}
    expected |= {f"ssh.{name}" for name in SshConfig.model_fields}
    assert set(rows) == expected
    assert len(rows) == len(expected)


def test_every_row_of_the_table_has_three_cells_and_a_meaning() -> None:
    for row in markdown_table().splitlines():
        cells = row.strip("|").split("|")
        assert len(cells) == 3, row
        assert cells[2].strip() not in ("", "None"), row


def test_the_readmes_table_is_the_generated_one() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    if not readme.exists() or "| `cluster_dir` |" not in readme.read_text():
        pytest.skip("the README has no table of provider keys")
    assert markdown_table() in readme.read_text()
