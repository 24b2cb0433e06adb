"""The cluster YAML as ``ray-slurm`` reads it: the same checks as in `ray up`, without Ray."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slurm_provider import bootstrap
from slurm_provider.cluster import Cluster
from slurm_provider.errors import ConfigError

_MODULE = "slurm_provider.SlurmNodeProvider"
_NEEDED = ("cluster_name", "provider", "available_node_types", "head_node_type")
# Ray has no defaults for these when the provider is not its own, and ends with a bare KeyError
# (ray/autoscaler/_private/util.py, prepare_config).
_NEEDED_BY_RAY = {
    "max_workers": "10",
    "setup_commands": "[]",
    "head_setup_commands": "[]",
    "worker_setup_commands": "[]",
}
_LISTS = ("setup_commands", "head_setup_commands", "worker_setup_commands")


@dataclass(frozen=True)
class ClusterFile:
    """A cluster YAML that passed every check that needs no Slurm."""

    config: dict[str, Any]
    """As the provider gets it: complete, defaults merged in."""
    cluster: Cluster

    @property
    def head_type(self) -> str:
        return str(self.config["head_node_type"])

    @property
    def node_types(self) -> Mapping[str, Any]:
        types: Mapping[str, Any] = self.config["available_node_types"]
        return types

    def checked_node_type(self, name: str) -> str:
        """``name``, if it is a node type of the file; raises ConfigError."""
        if name in self.node_types:
            return name
        close = difflib.get_close_matches(name, self.node_types, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"{name!r} is not in available_node_types ({', '.join(self.node_types)}){hint}"
        )


def load(path: str, cluster_name: str | None = None) -> ClusterFile:
    """Read and check a cluster YAML; ``cluster_name`` overrides the one in it, like Ray's ``-n``.

    Raises ConfigError naming the file, the key, the value and what to do.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file {path}; `ray-slurm init --output {path}` writes one"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file in UTF-8") from None
    return parse(text, path, cluster_name)


def parse(text: str, path: str, cluster_name: str | None = None) -> ClusterFile:
    """The same for the text of a file; ``path`` is for messages."""
    config = _mapping(text, path)
    if cluster_name is not None:
        config["cluster_name"] = cluster_name
    _check_keys(config, path)
    for key in ("head_setup_commands", "worker_setup_commands"):
        config[key] = config["setup_commands"] + config[key]  # as Ray merges them
    try:
        config = bootstrap.resolve(bootstrap.fillout(config))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return ClusterFile(config, Cluster(config["provider"], str(config["cluster_name"])))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice: YAML would silently keep the last one."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _refuse_twice(node, set())
        return node


def _refuse_twice(node: yaml.Node, known: set[int]) -> None:
    if id(node) in known or isinstance(node, yaml.ScalarNode):
        return
    known.add(id(node))  # an alias leads to it again, perhaps from within
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(item, known)
        return
    lines: dict[Any, int] = {}
    for key, value in node.value:
        name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
        if name in lines and key.value != "<<":
            raise yaml.constructor.ConstructorError(
                None, None, f"{key.value!r} is there already (line {lines[name]}), and only the "
                "last one would count", key.start_mark,
            )  # fmt: skip
        lines[name] = key.start_mark.line + 1
        _refuse_twice(value, known)


def _mapping(text: str, path: str) -> dict[str, Any]:
    try:
        config = yaml.load(text, _Loader)  # safe: it makes plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A date such as 2024-13-45, thousands of digits, thousands of brackets.
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: not a cluster YAML: it holds {_kind(config)}, not keys")
    return config


def _check_keys(config: Mapping[str, Any], path: str) -> None:
    misspelt = _misspelt(config)
    if misspelt:
        raise ConfigError(f"{path}: {misspelt}")
    missing = [key for key in _NEEDED if key not in config]
    if missing:
        raise ConfigError(
            f"{path}: missing: {', '.join(missing)}; compare with what `ray-slurm init` writes"
        )
    lacking = [key for key in _NEEDED_BY_RAY if config.get(key) is None]
    if lacking:
        lines = "\n".join(f"    {key}: {_NEEDED_BY_RAY[key]}" for key in lacking)
        raise ConfigError(
            f"{path}: missing: {', '.join(lacking)}; Ray has no default for them with a provider "
            f"that is not its own. Add:\n{lines}"
        )
    for key in ("provider", "available_node_types"):
        if not isinstance(config[key], dict):
            raise ConfigError(f"{path}: {key} must be a mapping, not {_kind(config[key])}")
    for key in _LISTS:
        if not isinstance(config[key], list):
            raise ConfigError(f"{path}: {key} must be a list, not {_kind(config[key])}")
    for name, section in config["available_node_types"].items():
        if not isinstance(name, str) or not isinstance(section, dict):
            raise ConfigError(
                f"{path}: available_node_types: {name!r} must be a name with a mapping below it"
            )
    _check_provider(config["provider"], path)
    head = config["head_node_type"]
    if not isinstance(head, str) or head not in config["available_node_types"]:
        known = ", ".join(config["available_node_types"]) or "none"
        raise ConfigError(
            f"{path}: head_node_type {head!r} is not in available_node_types (there: {known})"
        )


def _misspelt(config: Mapping[str, Any]) -> str:
    """Keys that are there instead of one that must be."""
    needed = (*_NEEDED, *_NEEDED_BY_RAY)
    others = [str(key) for key in config if key not in needed]
    found = []
    for key in needed:
        # The cutoff keeps `min_workers`, which older Ray had, apart from `max_workers`.
        close = difflib.get_close_matches(key, others, n=1, cutoff=0.85)
        if key not in config and close:
            found.append(f"{close[0]!r} is no key of a cluster YAML; did you mean {key!r}?")
    return " ".join(found)


def _check_provider(provider: Mapping[str, Any], path: str) -> None:
    for key, wanted in (("type", "external"), ("module", _MODULE)):
        if provider.get(key) != wanted:
            raise ConfigError(
                f"{path}: provider.{key} is {provider.get(key)!r}; a cluster on Slurm has "
                f"{key}: {wanted}"
            )


def _kind(value: object) -> str:
    kinds = {dict: "a mapping", list: "a list", str: "text", type(None): "nothing"}
    return kinds.get(type(value), f"{value!r}")
