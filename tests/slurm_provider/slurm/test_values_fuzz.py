"""No value reaches sbatch as anything else than what stands in the YAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_provider.errors import ConfigError
from slurm_provider.node_types import read_node_type
from slurm_provider.slurm import OPTIONS, OptionError, to_argv, validate
from slurm_provider.slurm.output_path import escaped_pattern

STABLE = settings(max_examples=200, deadline=None, derandomize=True)
WHERE = "node_config of 'gpu'"
TEXT_KEYS = sorted(
    name
    for name, option in OPTIONS.items()
    if option.owner == "user" and option.kind.takes in ("text", "text or list", "one host name")
)
# Where a number is meant, it may be written in every way that YAML has for it.
ALSO_NUMBERS = {"acctg-freq", "cpu-freq", "switches", "priority"}
# Each is something else than text to YAML 1.1.
TRAPS = (
    "010", "0x1F", "0b11", "1_000", "+12", "1:30", "1:00:00", "1.10", ".5", "1.0e+5", ".inf",
    "on", "yes", "TRUE", "2024-01-01", "2024-01-01 10:00:00", "~", "null", "4711",
)  # fmt: skip
PLAIN = st.one_of(
    st.sampled_from(TRAPS),
    st.from_regex(r"[-+]?[0-9_.:xobeE+-]{1,12}", fullmatch=True),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
)


def read(scalar: str) -> Any:
    """The value of ``key: scalar`` in YAML, or None for what is no YAML or something else."""
    try:
        values = yaml.safe_load(f"key: {scalar}")
    except (yaml.YAMLError, ValueError):
        return None
    return values["key"] if isinstance(values, dict) and len(values) == 1 else None


@pytest.mark.parametrize("scalar", TRAPS)
def test_what_yaml_takes_for_something_else_is_refused_where_text_is_taken(scalar: str) -> None:
    for key in TEXT_KEYS:
        if key in ALSO_NUMBERS and isinstance(read(scalar), int):
            continue
        with pytest.raises(OptionError) as caught:
            validate({key: read(scalar)}, WHERE)
        assert "quote" in str(caught.value) or "no value" in str(caught.value)


@STABLE
@given(st.sampled_from([key for key in TEXT_KEYS if key not in ALSO_NUMBERS]), PLAIN)
def test_an_unquoted_value_arrives_as_written_or_is_refused(key: str, scalar: str) -> None:
    value = read(scalar)
    if value is None or value is False:
        return
    try:
        argv = to_argv(validate({key: value}, WHERE))
    except OptionError as error:
        assert str(error).isprintable()
        return
    items = value if isinstance(value, list) else [value]
    assert all(isinstance(item, str) for item in items)
    assert argv == [f"--{key}={','.join(items)}"]


@pytest.mark.parametrize("word", ["no", "off", "false"])
def test_false_leaves_out_a_default_and_is_no_text(word: str) -> None:
    off = read(word)
    node_type = read_node_type("gpu", {"node_config": {"account": off}}, {"account": "a"})
    assert node_type.options == {}
    with pytest.raises(ConfigError, match=r"node_config of 'gpu': account: false .* quote it"):
        read_node_type("gpu", {"node_config": {"account": off}}, {})
    with pytest.raises(ConfigError, match=r"provider.defaults: qos: false .* quote it"):
        read_node_type("gpu", {}, {"qos": off})
    assert read_node_type("gpu", {"node_config": {"exclusive": off}}, {}).options == {}


@pytest.mark.parametrize(
    "options",
    [
        {"cpus-per-task": 4294967297},  # 22.05 takes this for 1
        {"cpus-per-task": "99999999999999999999"},
        {"mincpus": 65537},
        {"tmp": "100000000G"},  # and this for 3531008G
        {"time": "999999999999"},  # 2974593-21:31:00
        {"nice": 2**32},
        {"priority": "high"},  # 0
        {"extra": "2:1"},  # --extra-node-info
        {"nodelist": "n1 n2"},  # two hosts
        {"begin": yaml.safe_load("2030-01-01 10:00:00.5")},
    ],
)
def test_what_sbatch_takes_for_something_else_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        validate(options, WHERE)


@pytest.mark.parametrize("key", ["account", "cpus-per-task", "time", "gres", "x" * 10_000])
def test_a_refusal_of_a_long_value_can_be_read(key: str) -> None:
    with pytest.raises(OptionError) as caught:
        validate({key: "\n" + "v" * 10_000}, WHERE)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_path_of_a_log_is_a_pattern_only_where_we_say_so() -> None:
    assert escaped_pattern("/home/a b/100%j/%%/log") == "/home/a b/100%%j/%%%%/log"
    with pytest.raises(ValueError, match="backslash"):
        escaped_pattern("/home/LAB\\ann/log")
