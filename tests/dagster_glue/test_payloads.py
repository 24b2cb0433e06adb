from __future__ import annotations

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
    assert payload.runtime_env == {"pip": ["x==1"]}
    assert payload.env_vars == {"A": "1", "B": "2"}


def test_files_of_the_asset_and_of_the_launchpad_are_uploaded(tmp_path: Path) -> None:
    for name in ("run.py", "a.csv", "b.csv"):
        (tmp_path / name).touch()
    config = SlurmRunConfig(extra_files=[str(tmp_path / "b.csv")])
    payload = plan(str(tmp_path / "run.py"), None, config, extra_files=[str(tmp_path / "a.csv")])
    assert sorted(payload.files) == ["a.csv", "b.csv", "run.py"]


def test_a_payload_that_is_there_already_is_not_looked_for_here() -> None:
    config = SlurmRunConfig(remote_payload_path="/apps/train.py")
    payload = plan("train.py --epochs 3", None, config)
    assert payload.command == ("python", "/apps/train.py", "--epochs", "3")
    assert payload.files == {}


def test_a_payload_is_in_the_environment_s_folder_for_scripts_unless_told_otherwise() -> None:
    config = SlurmRunConfig(skip_payload_upload=True)
    payload = plan("scripts/train.py", None, config, pre_deployed_env_path="/envs/prod")
    assert payload.command == ("python", "/envs/prod/scripts/train.py")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SlurmRunConfig(skip_payload_upload=True), "nobody says where"),
        (SlurmRunConfig(remote_payload_path="train.py"), "not an absolute path"),
    ],
)
def test_a_payload_that_is_nowhere_is_refused(config: SlurmRunConfig, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan("train.py", None, config)
