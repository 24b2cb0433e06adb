from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dagster_glue import BashLauncher, ConfigError, RayLauncher, SlurmRunConfig
from dagster_glue.jobs.payload import Payload
from dagster_glue.launchers import Launcher
from dagster_glue.payloads import payload_for


def plan(
    payload_path: str,
    launcher: Launcher | None = None,
    config: SlurmRunConfig | None = None,
    **more: Any,
) -> Payload:
    settings = {"extra_env": {}, "extra_files": [], "pre_deployed_env_path": None, **more}
    return payload_for(
        payload_path, launcher or BashLauncher(), config or SlurmRunConfig(), **settings
    )


def test_the_launcher_s_folder_and_environment_go_with_the_payload(tmp_path: Path) -> None:
    launcher = RayLauncher(
        working_dir=str(tmp_path), runtime_env={"pip": ["x==1"], "env_vars": {"A": "1", "B": "1"}}
    )
    payload = plan("python -m train.entrypoint --epochs 3", launcher, extra_env={"B": "2"})
    assert payload.command == ("python", "-m", "train.entrypoint", "--epochs", "3")
    assert payload.working_dir == str(tmp_path)
    assert payload.runtime_env["pip"]["packages"] == ["x==1"]
    assert payload.env_vars == {"A": "1", "B": "2"}


def test_files_of_the_asset_and_of_the_launchpad_are_uploaded(tmp_path: Path) -> None:
    for name in ("run.py", "a.csv", "b.csv"):
        (tmp_path / name).touch()
    config = SlurmRunConfig(extra_files=[str(tmp_path / "b.csv")])
    payload = plan(str(tmp_path / "run.py"), None, config, extra_files=[str(tmp_path / "a.csv")])
    assert sorted(payload.files) == ["a.csv", "b.csv", "run.py"]


@pytest.mark.parametrize(
    ("payload_path", "command"),
    [
        ("train.py --epochs 3", ("python", "/apps/train.py", "--epochs", "3")),
        ("python train.py --epochs 3", ("python", "/apps/train.py", "--epochs", "3")),
        ("python3.11 -X dev -u train.py 'a b'",
         ("python3.11", "-X", "dev", "-u", "/apps/train.py", "a b")),
        ("python /home/me/train.py", ("python", "/apps/train.py")),
    ],
)  # fmt: skip
def test_a_payload_that_is_there_already_is_not_looked_for_here(
    payload_path: str, command: tuple[str, ...]
) -> None:
    payload = plan(payload_path, None, SlurmRunConfig(remote_payload_path="/apps/train.py"))
    assert (payload.command, payload.files) == (command, {})


def test_the_path_over_there_may_take_the_place_of_one_with_blanks_here(tmp_path: Path) -> None:
    script = tmp_path / "my train.py"
    script.touch()
    payload = plan(str(script), None, SlurmRunConfig(remote_payload_path="/apps/train.py"))
    assert payload.command == ("python", "/apps/train.py")


def test_a_path_below_the_home_folder_is_found_over_there(tmp_path: Path) -> None:
    (tmp_path / "app's").mkdir()
    (tmp_path / "app's" / "train.py").write_text("import sys; print(sys.flags.utf8_mode, sys.argv)")
    config = SlurmRunConfig(remote_payload_path="~/app's/train.py")
    payload = plan("python -X utf8 train.py --name 'a b' '$HOME'", None, config)
    done = subprocess.run(
        payload.command, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True
    )
    script = f"{tmp_path}/app's/train.py"
    assert done.stdout == f"1 {[script, '--name', 'a b', '$HOME']}\n"


@pytest.mark.parametrize(
    ("payload_path", "pre_deployed", "command"),
    [
        ("scripts/train.py", "/envs/prod", ("python", "/envs/prod/scripts/train.py")),
        ("python train.py -x", "/envs/prod/", ("python", "/envs/prod/scripts/train.py", "-x")),
        ("python -m train.entry -x", "/envs/prod", ("python", "-m", "train.entry", "-x")),
        ("python -m train.entry", None, ("python", "-m", "train.entry")),
        ("train.py", "~/prod",
         ("sh", "-c", 'exec python "$HOME/$0" "$@"', "prod/scripts/train.py")),
    ],
)  # fmt: skip
def test_a_payload_is_in_the_environment_s_folder_for_scripts_unless_told_otherwise(
    payload_path: str, pre_deployed: str | None, command: tuple[str, ...]
) -> None:
    config = SlurmRunConfig(skip_payload_upload=True)
    payload = plan(payload_path, None, config, pre_deployed_env_path=pre_deployed)
    assert (payload.command, payload.files) == (command, {})


@pytest.mark.parametrize(
    ("payload_path", "config", "words"),
    [
        ("train.py", SlurmRunConfig(skip_payload_upload=True), "nobody says where"),
        ("train.py", SlurmRunConfig(remote_payload_path="train.py"), "must be absolute"),
        ("python -m train", SlurmRunConfig(remote_payload_path="/a/b.py"), "runs no script"),
    ],
)
def test_a_payload_that_is_nowhere_is_refused(
    payload_path: str, config: SlurmRunConfig, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(payload_path, None, config)
