"""Mistakes in a cluster YAML are named before anything else happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slurm_provider.cli.cluster_file import load, parse
from slurm_provider.errors import ConfigError

EXAMPLES = sorted((Path(__file__).parents[3] / "cluster-configs").glob("*.yaml"))


def _message(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.yaml")
    return str(caught.value)


def test_a_missing_file_is_answered_with_the_command_that_writes_one() -> None:
    with pytest.raises(ConfigError, match=r"no file nope\.yaml; `ray-slurm init"):
        load("nope.yaml")


def test_a_syntax_error_carries_its_line_and_column() -> None:
    assert "c.yaml, line 2, column 3: not valid YAML" in _message("a: 1\n b: c: 2\n")


@pytest.mark.parametrize(("text", "kind"), [("- a\n", "a list"), ("", "nothing"), ("5", "5")])
def test_a_file_without_keys_is_no_cluster_yaml(text: str, kind: str) -> None:
    assert f"it holds {kind}, not keys" in _message(text)


def test_the_keys_every_cluster_needs_are_listed_when_missing() -> None:
    words = _message("cluster_name: x\nprovider: {}\n")
    assert "missing: available_node_types, head_node_type" in words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_workers": None}, "missing: max_workers; Ray has no default"),
        ({"setup_commands": None}, "Add:\n    setup_commands: []"),
        ({"setup_commands": "echo"}, "setup_commands must be a list, not text"),
        ({"provider": "slurm"}, "provider must be a mapping, not text"),
        ({"provider": {"type": "aws"}}, "provider.type is 'aws'"),
        ({"provider": {"type": "external", "module": "x.Y"}}, "provider.module is 'x.Y'"),
        ({"head_node_type": "hed"}, "'hed' is not in available_node_types (there: head, cpu)"),
        ({"available_node_types": {"head": None}}, "'head' must be a name with a mapping below"),
        ({"cluster_name": "a b"}, "cluster_name 'a b' cannot be used"),
        ({"available_node_types": {"head": {"max_workers": -2}}}, "max_workers of 'head': -2 is"),
    ],
)
def test_a_wrong_key_is_named_with_what_is_allowed(
    cli: Any, change: dict[str, Any], words: str
) -> None:
    cli.config.update(change)
    with pytest.raises(ConfigError) as caught:
        load(cli.write())
    assert words in str(caught.value)
    assert str(caught.value).startswith("c.yaml: ")


def test_a_misspelt_key_is_told_as_misspelt_and_not_as_missing(cli: Any) -> None:
    cli.config["max_worker"] = cli.config.pop("max_workers")
    with pytest.raises(ConfigError, match=r"'max_worker' is no key.*did you mean 'max_workers'"):
        load(cli.write())


def test_a_key_that_is_written_twice_is_refused_with_both_lines() -> None:
    words = _message("a:\n  cpu: 1\n  gpu: 2\n  cpu: 3\n")
    assert "c.yaml, line 4, column 3" in words
    assert "'cpu' is there already (line 2), and only the last one would count" in words


def test_a_yaml_that_merges_an_anchor_may_override_its_keys() -> None:
    words = _message("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  a: 3\nz:\n  <<: *x\n")
    assert "missing: cluster_name" in words


def test_a_mapping_that_overrides_what_it_merges_may_be_merged_itself() -> None:
    words = _message("a: &a {k: 1}\nb: &b {<<: *a, k: 2}\nc:\n  d: {<<: *b}\n  e: {<<: *b, k: 3}\n")
    assert "missing: cluster_name" in words


def test_an_sbatch_option_that_is_none_is_refused_with_the_file_and_the_closest(cli: Any) -> None:
    cli.config["available_node_types"]["cpu"]["node_config"]["partion"] = "x"
    with pytest.raises(ConfigError, match=r"c\.yaml: node_config of 'cpu'.*'partition'"):
        load(cli.write())


def test_the_name_on_the_command_line_wins_and_decides_the_directory(cli: Any) -> None:
    cluster = load(cli.write(), "other").cluster
    assert cluster.name == "other"
    assert cluster.store.paths.root == f"{cli.home}/.ray-slurm/other"


def test_common_set_up_commands_come_before_those_of_workers(cli: Any) -> None:
    cli.config.update(setup_commands=["first"], worker_setup_commands=["second"])
    config = load(cli.write()).config
    assert config["provider"]["_nodes"]["setup_commands"]["cpu"] == ["first", "second"]


def test_a_misspelt_node_type_is_answered_with_the_closest(cli: Any) -> None:
    file = load(cli.write())
    assert file.checked_node_type("cpu") == "cpu"
    with pytest.raises(ConfigError, match="did you mean 'cpu'"):
        file.checked_node_type("cpus")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_configurations_of_the_repository_load(path: Path) -> None:
    assert load(str(path)).head_type == "head"
