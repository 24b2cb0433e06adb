"""What a cluster YAML says in text reaches the nodes as it stands there, or is refused: no shell,
no path and no pattern of Slurm's makes anything else of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slurm_provider.agent.node import _quoted
from slurm_provider.bootstrap import fillout, resolve
from slurm_provider.cluster_paths import ClusterPaths, folder_problem
from slurm_provider.config import EnvironmentConfig, parse_provider
from slurm_provider.errors import ConfigError
from slurm_provider.fleet.identity import WORKER, JobIdentity, name_error, parse_job_name
from slurm_provider.fleet.launch import LaunchRequest, activation, provider_options
from slurm_provider.slurm import to_argv
from slurm_provider.slurm.options import check_provider_options
from slurm_provider.slurm.step import agent_argv

STABLE = settings(max_examples=100, deadline=None, derandomize=True)
NASTY = (
    "a b", "it's", 'say "x"', "$(touch pwned)", "`touch pwned`", "a;touch pwned", "a\ntouch pwned",
    "a%jb", "%%", "%", "back\\slash", "-x", "--wrap=x", "ünï 🚀", "a\tb", "\x1b[2J", "a:b", "#x",
    "!x", "*", "~", "$HOME", "${HOME}", "\0", "\ud800", "x" * 10_000, "", " ", "\\", "'", "\u2028",
)  # fmt: skip
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(max_size=40))
PATHS = TEXTS.map(lambda text: f"/shared/{text}")
LAUNCH = "abcdefghij"


def accepted(**section: Any) -> Any:
    """The section as it is understood, or None if it is refused by one line of message."""
    try:
        return parse_provider(section)
    except ConfigError as error:
        assert len(str(error)) < 1000
        return None


def bash(lines: str, folder: Path, *, check: bool = True) -> str:
    """What the lines print when they run in ``folder``, where nothing else may happen."""
    before = sorted(os.listdir(folder))
    done = subprocess.run(
        ["bash", "-c", lines], env={"PATH": "/usr/bin:/bin", "HOME": str(folder)}, cwd=folder,
        capture_output=True, timeout=20, check=check,
    )  # fmt: skip
    assert sorted(os.listdir(folder)) == before
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cwd")


@STABLE
@given(name=TEXTS, value=TEXTS)
@example(name="A;touch pwned", value="x")
@example(name="A", value="x" * 200_000)
def test_a_variable_is_exported_as_it_stands_or_refused(
    name: str, value: str, folder: Path
) -> None:
    try:
        config = parse_provider({"env": {name: value}})
    except ConfigError as error:
        assert value not in str(error) or len(value) < 8 or value in name  # it may be a secret
        return
    if "\0" in value or "\ud800" in value:
        return  # refused with the whole file, see below
    lines = "\n".join(f"export {key}={_quoted(text)}" for key, text in config.env.items())
    assert bash(f'{lines}\nprintf %s "${name}"', folder) == value


@STABLE
@given(PATHS)
def test_a_prefix_is_a_folder_in_path_or_refused(folder: Path, prefix: str) -> None:
    config = accepted(environment={"prefix": prefix})
    if config is None:
        return
    printed = bash(activation(config.environment, "/x"), folder, check=False)
    assert printed == ""  # no such folder: said on stderr
    # As if it were there: the last line is what puts it on PATH.
    line = activation(config.environment, "/x").splitlines()[-1]
    assert bash(f'{line}; printf %s "$PATH"', folder).split(":")[0] == f"{prefix}/bin"


@STABLE
@given(PATHS)
def test_an_archive_is_one_file_or_refused(folder: Path, archive: str) -> None:
    config = accepted(environment={"archive": archive})
    if config is None:
        return
    lines = activation(config.environment, "/dev/null")
    assert bash(f'{lines}printf %s "$RAY_SLURM_ARCHIVE"', folder) == archive


def read_pattern(pattern: str, task: str) -> str:
    """The path that sbatch and srun make of ``--output`` (tried on 22.05)."""
    assert "\\" not in pattern
    parts = pattern.split("%%")
    assert all("%" not in part.replace("%a", "") for part in parts)
    return "%".join(part.replace("%a", task) for part in parts)


@STABLE
@given(PATHS, st.integers(0, 9) | st.none())
@example("/home/50%/x", None)
def test_a_node_logs_where_it_is_looked_for(root: str, index: int | None) -> None:
    config = accepted(cluster_dir=root)
    assert (config is None) == (folder_problem(root) is not None)
    if config is None:
        return
    paths = ClusterPaths(root)
    request = LaunchRequest(WORKER, "gpu", {}, {}, {}, {}, None)
    identity = JobIdentity("demo", "gpu", "uuid", WORKER, LAUNCH, index)
    options = check_provider_options(provider_options(identity, request, config, paths))
    (word,) = (word for word in to_argv(options) if word.startswith("--output="))
    node_id = f"{LAUNCH}-{index if index is not None else 7}"
    assert read_pattern(word.removeprefix("--output="), "7") == paths.log(node_id)
    step = agent_argv("1", 1, ["x"], cpus=1, log=paths.log(node_id), variables=["HOME"])
    (word,) = (word for word in step if word.startswith("--output="))
    assert read_pattern(word.removeprefix("--output="), "7") == paths.log(node_id)


@STABLE
@given(st.one_of(TEXTS, st.integers(), st.booleans(), st.none(), st.floats()))
def test_a_name_can_be_part_of_a_jobs_name_and_of_a_shell_line_or_is_refused(name: Any) -> None:
    if name_error(name) is None:
        identity = JobIdentity(name, name, "0123456789ab", WORKER, LAUNCH, 3)
        assert parse_job_name(identity.job_name) == identity
        assert subprocess.list2cmdline([name]) == name
        assert not set(name) & set("%\\$`'\" \n:;&|")
    else:
        assert not isinstance(name, str) or "letters" in str(name_error(name))


def config_with(**changes: Any) -> dict[str, Any]:
    provider = {"type": "external", "module": "slurm_provider.SlurmNodeProvider"}
    head = {"node_config": {}, "resources": {}, **changes.pop("head", {})}
    return {
        "cluster_name": "demo",
        "max_workers": 0,
        "head_node_type": "head",
        "available_node_types": {"head": head},
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        **changes,
        "provider": {**provider, **changes.get("provider", {})},
    }


@pytest.mark.parametrize(
    "text",
    [
        "cluster_name: 010",
        "cluster_name: on",
        "head: {labels: {zone: on}}",
        "head: {labels: {zone: 1.10}}",
        "head: {labels: {on: a}}",
        "head: {resources: {on: 1}}",
        "provider: {env: {UMASK: 022}}",
        "provider: {env: {AT: 1:30}}",
        "provider: {env: {VERSION: 3.10}}",
        "provider: {env: {DEBUG: on}}",
        "provider: {env: {on: x}}",
        "provider: {defaults: {account: 010}}",
        "provider: {defaults: {account: off}}",
        'provider: {env: {A: "x\\0y"}}',
        'provider: {environment: {activate: "a \\ud800"}}',
        'setup_commands: ["echo \\0"]',
        'file_mounts: {"~/a\\0": /tmp}',
    ],
)
def test_what_yaml_would_change_is_refused_by_one_message(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve(fillout(config_with(**yaml.safe_load(text))))
    assert "YAML" in str(refused.value) or "NUL" in str(refused.value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "section",
    [
        {"ssh": {"host": "edge", "user": "-oProxyCommand=x"}},
        {"ssh": {"host": "-oProxyCommand=x"}},
        {"ssh": {"host": "edge", "user": 'a"b'}},
        {"ssh": {"host": "edge", "user": "a\nHost *"}},
        {"ssh": {"host": "edge\nHost *"}},
        {"ssh": {"host": "edge", "jump_host": "a\nb"}},
        {"temp_dir": "/tmp/a\nb"},
        {"network": "ib0\n"},
    ],
)
def test_a_value_that_another_program_would_read_differently_is_refused(
    section: dict[str, Any],
) -> None:
    from slurm_provider.cluster import Cluster

    with pytest.raises(ConfigError):
        _ = Cluster(section, "demo").transport


def test_an_environment_may_hold_any_shell_lines() -> None:
    lines = "module load a\nexport B='c d'\n"
    assert activation(EnvironmentConfig.model_validate({"activate": lines}), "/x") == lines + "\n"
