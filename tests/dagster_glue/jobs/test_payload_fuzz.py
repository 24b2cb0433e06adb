"""A payload gets its arguments, variables and extras as they were given, or they are refused."""

from __future__ import annotations

import io
import json
import os
import shlex
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagster_glue.cluster_config import run_needs
from dagster_glue.jobs.driver_package import MODULE, driver_package, takes_packages
from dagster_glue.jobs.errors import PayloadError
from dagster_glue.jobs.payload import check_extras, plan_payload
from dagster_glue.jobs.request import EntrypointResources, job_request
from dagster_glue.jobs.run_folder import RunFolder
from dagster_glue.jobs.submission import StepCall, submission_id
from dagster_glue.launchers import RayLauncher
from dagster_glue.payloads import payload_for
from dagster_glue.slurm import SlurmQueueConfig, SlurmRunConfig
from slurm_provider.errors import ConfigError
from slurm_provider.slurm import to_argv, validate
from slurm_provider.transport import LocalTransport

STABLE = settings(max_examples=60, deadline=None, derandomize=True)
NASTY = (
    "a b", "it's", 'say "x"', "$(touch pwned)", "`touch pwned`", "a;touch pwned", "a\ntouch pwned",
    "%", "back\\slash", "-x", "--", "ünï 🚀", "a\tb", "\x1b[2J", "#x", "!x", "*", "~", "$HOME",
    "${HOME}", "${NOPE}", "$5", "$", "=ls", "\0", "\ud800", "x" * 10_000, "", " ", "\\", "'",
)  # fmt: skip
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(max_size=30))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `python` that prints its arguments, a payload, and nothing else."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text("#!/bin/sh\nprintf '%s\\0' \"$@\"\n")
    (folder / "bin" / "python").chmod(0o755)
    (folder / "payload.py").touch()
    return folder


def run(command: str, folder: Path) -> list[str]:
    """The arguments of the `python` in a command, as Ray starts it."""
    before = sorted(os.listdir(folder))
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, timeout=20, check=True,
        env={"PATH": f"{folder}/bin:/usr/bin:/bin", "HOME": "/home/x"},
    )  # fmt: skip
    assert sorted(os.listdir(folder)) == before
    return done.stdout.decode().split("\0")[:-1]


def entrypoint(payload: Any, folder: RunFolder | None) -> str:
    request = job_request(
        "run-step-0-0", payload, StepCall("run", "step", 0, 0), "digest", package_uri=None,
        folder=folder, driver_uri="gcs://_ray_pkg_0.zip" if folder is None else None, env={},
        entrypoint=EntrypointResources(),
    )  # fmt: skip
    return str(request["entrypoint"])


@STABLE
@given(st.lists(TEXTS, max_size=4))
def test_arguments_arrive_as_given_or_are_refused(shell: Path, arguments: list[str]) -> None:
    path = str(shell / "payload.py")
    try:
        payload = plan_payload(shlex.join([path, *arguments]))
    except PayloadError as error:
        assert "\0" in "".join(arguments) or "\ud800" in "".join(arguments)
        assert len(str(error)) < 300
        return
    command = ["python", "payload.py", *arguments]
    assert run(entrypoint(payload, None), shell) == ["-m", MODULE, *command]
    folder = RunFolder(LocalTransport(), "/shared/it's %j $(id)", "run-step-0-0")
    started = run(entrypoint(payload, folder), shell)
    assert started == [f"{folder.path}/job_main.py", "--", *command]


@STABLE
@given(TEXTS, TEXTS)
def test_a_deployed_payload_arrives_as_given_or_is_refused(
    shell: Path, path: str, argument: str
) -> None:
    config = SlurmRunConfig(remote_payload_path=f"~/{path}")
    try:
        payload = payload_for(
            shlex.join(["x.py", argument]), RayLauncher(), config, extra_env={}, extra_files=[],
            pre_deployed_env_path=None,
        )  # fmt: skip
    except (PayloadError, ConfigError):
        return
    assert run(shlex.join(payload.command), shell) == [f"/home/x/{path}", argument]


@pytest.mark.parametrize("name", ["-c.py", "a b.py", "it's.py", "$(id).py", "ü.py", "a\nb.py"])
def test_a_script_of_any_name_is_a_script(tmp_path: Path, shell: Path, name: str) -> None:
    (tmp_path / name).touch()
    script = f"./{name}" if name.startswith("-") else name
    outside = plan_payload(str(tmp_path / name))
    inside = plan_payload(shlex.quote(name), working_dir=str(tmp_path))
    for payload in (outside, inside):
        assert run(shlex.join(payload.command), shell) == [script]
    assert outside.files == {name: str(tmp_path / name)}


@STABLE
@given(name=TEXTS, value=TEXTS)
@example(name="A", value="costs $5 or ${NOPE}")
def test_a_variable_is_what_was_given_or_refused(name: str, value: str) -> None:
    from ray._private.utils import update_envs  # what Ray's workers do with env_vars

    try:
        payload = plan_payload("python -m a", extra_env={name: value})
    except PayloadError as error:
        assert value not in str(error) or len(value) < 8 or value in name  # it may be a secret
        return
    before = dict(os.environ)
    try:
        update_envs(dict(payload.env_vars))
        assert os.environ[name] == value
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_what_ray_is_to_replace_goes_by_the_runtime_env() -> None:
    payload = plan_payload("python -m a", runtime_env={"env_vars": {"PATH": "$HOME/bin:${PATH}"}})
    assert payload.env_vars == {"PATH": "$HOME/bin:${PATH}"}
    with pytest.raises(PayloadError, match=r"extra_env: 'PATH' .*runtime_env\['env_vars'\]"):
        plan_payload("python -m a", extra_env={"PATH": "$HOME/bin"})


KEYS = TEXTS | st.integers()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@STABLE
@given(st.dictionaries(TEXTS, JSON, max_size=3))
def test_extras_arrive_as_given_or_are_refused(extras: dict[str, Any]) -> None:
    try:
        check_extras(extras)
    except PayloadError:
        return
    assert json.loads(json.dumps(extras)) == extras


@STABLE
@given(st.dictionaries(st.sampled_from(["A", "B_1"]), TEXTS.map(lambda t: t.strip("\0\ud800"))))
def test_variables_travel_in_a_private_file_that_is_read_once(variables: dict[str, str]) -> None:
    uri, data = driver_package(variables)
    assert uri != driver_package(variables)[0]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        modes = {entry.external_attr >> 16 for entry in archive.infolist()}
        assert modes == {stat.S_IFREG | 0o600}
        assert json.loads(archive.read(f"{MODULE}.json")) == variables


def test_the_command_gets_the_variables_and_the_file_goes(tmp_path: Path) -> None:
    _, data = driver_package({"A": "two\nlines $(id)"})
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path)
    start = [sys.executable, "-m", MODULE]
    env = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    show = [*start, "sh", "-c", 'printf "%s|%s" "$A" "$1"', "sh", "it's"]
    done = subprocess.run(show, env=env, capture_output=True, text=True, timeout=20)
    assert done.stdout == "two\nlines $(id)|it's", done.stderr
    assert not (tmp_path / f"{MODULE}.json").exists()
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path)
    done = subprocess.run([*start, "no-such-program"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (127, 1)
    assert "no-such-program cannot be started" in done.stderr


def test_a_container_takes_no_package() -> None:
    assert takes_packages({"pip": {"packages": ["a"]}})
    assert not takes_packages({"image_uri": "x"})
    assert not takes_packages({"container": {"image": "x"}})


@STABLE
@given(TEXTS)
def test_a_step_of_any_name_gives_a_name_for_files(step_key: str) -> None:
    if "\ud800" not in step_key:
        name = submission_id(StepCall("run", step_key, 0, 0))
        assert name.replace("-", "").replace("_", "").isalnum() and name.isascii()


NAMES = st.sampled_from(["partition", "account", "nodes", "mem", "time_limit", "gres"])
OPTIONS = st.dictionaries(
    st.one_of(TEXTS, NAMES, st.booleans(), st.integers()),
    st.one_of(TEXTS, st.booleans(), st.integers(), st.floats(), st.none(), st.sampled_from(["²"])),
    max_size=3,
)  # fmt: skip


@STABLE
@given(OPTIONS)
def test_options_of_a_run_or_a_queue_reach_slurm_as_given_or_are_refused(options: Any) -> None:
    for read in (
        lambda: run_needs(options, {}).options,
        lambda: SlurmQueueConfig(extra_slurm_opts=options).options(),
    ):
        try:
            found = read()
        except ConfigError:
            continue
        for word in to_argv(validate(found, "x")):
            _, _, text = word.removeprefix("--").partition("=")
            assert not text or text in map(str, options.values())
