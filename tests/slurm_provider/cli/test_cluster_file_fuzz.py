"""A cluster YAML with anything in any place is understood, or refused by a message that can be
read: never by a traceback."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurm_provider.cli.cluster_file import parse
from slurm_provider.errors import ConfigError

SITE = Path(__file__).parents[3] / "cluster-configs" / "site.yaml"
ODD: tuple[Any, ...] = (
    None, True, False, -1, 5, 10**25, 1.5, float("inf"), "", "x", "a\nb", "\0", "$(id)",
    "x" * 10_000, [], [1], ["a"], [[]], {}, {"a": 1}, {1: 2}, {True: None}, date(2024, 1, 1),
)  # fmt: skip
ODD_KEYS = (1, True, None, "x\n", "$(id)", "x" * 10_000, date(2024, 1, 1))


def whole() -> dict[str, Any]:
    """A configuration with something of everything."""
    config: dict[str, Any] = yaml.safe_load(SITE.read_text())
    ssh = {"host": "edge", "user": "ann", "port": 22, "jump_host": "gate"}
    config["provider"] |= {
        "env": {"A": "b"}, "ssh": ssh, "head_ssh": ssh, "ray_start_options": {"x": "y"},
        "network": "ib0", "temp_dir": "/tmp", "object_store_memory_mb": 100, "max_pending": 3,
        "unleased_timeout_s": 5,
    }  # fmt: skip
    config |= {"file_mounts": {"~/a": "/tmp"}, "initialization_commands": ["echo"]}
    return config


WHOLE = whole()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*path, key)
        if isinstance(value[key], dict | list):
            yield from places(value[key], (*path, key))


def changed(place: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    """The configuration with every odd value, and under every odd key, in this place."""
    for odd, is_key in [*((odd, False) for odd in ODD), *((odd, True) for odd in ODD_KEYS)]:
        config = copy.deepcopy(WHOLE)
        inner: Any = config
        for key in place[:-1]:
            inner = inner[key]
        if not is_key:
            inner[place[-1]] = odd
        elif isinstance(inner, dict):
            inner[odd] = inner.pop(place[-1])
        yield config


def test_the_whole_configuration_is_understood() -> None:
    parse(yaml.safe_dump(WHOLE), "c.yaml")


@pytest.mark.parametrize("section", WHOLE)
def test_an_odd_value_anywhere_is_understood_or_refused(section: str) -> None:
    for place in places(WHOLE):
        if place[0] != section:
            continue
        for config in changed(place):
            try:
                text = yaml.safe_dump(config)
            except TypeError:  # keys of several kinds cannot be sorted
                text = yaml.safe_dump(config, sort_keys=False)
            try:
                parse(text, "c.yaml")
            except ConfigError as error:
                assert len(str(error)) < 3000, place


@pytest.mark.parametrize("text", ["a: 2024-13-45", "a: " + "9" * 5000, "[" * 5000, "\0", "a: *b"])
def test_what_is_no_yaml_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^c\.yaml.*not valid YAML"):
        parse(text, "c.yaml")
