from __future__ import annotations

from pathlib import Path

import pytest

from dagster_glue.environment import EnvironmentFailed, LoginShell, PreDeployed
from slurm_provider.config import EnvironmentConfig
from slurm_provider.transport import LocalTransport

HERE = LocalTransport()


def ensure(path: str) -> dict[str, str]:
    found = PreDeployed(path).ensure(HERE, "/base", lambda words: None)
    EnvironmentConfig.model_validate(found)  # what the provider takes
    return found


def prefix(path: Path) -> Path:
    (path / "bin").mkdir(parents=True)
    (path / "bin" / "python3").touch()
    return path


def test_a_prefix_is_used_as_such(tmp_path: Path) -> None:
    assert ensure(f"{prefix(tmp_path / 'venv')}/") == {"prefix": f"{tmp_path}/venv"}


def test_a_folder_with_activate_sh_is_activated_by_it(tmp_path: Path) -> None:
    prefix(tmp_path / "an env" / "env")
    (tmp_path / "an env" / "activate.sh").touch()
    assert ensure(f"{tmp_path}/an env") == {"activate": f". '{tmp_path}/an env/activate.sh'"}


def test_a_prefix_below_env_is_found(tmp_path: Path) -> None:
    prefix(tmp_path / "env")
    assert ensure(str(tmp_path)) == {"prefix": f"{tmp_path}/env"}


def test_the_home_folder_is_that_of_the_other_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    prefix(tmp_path / "venv")
    assert ensure("~/venv") == {"prefix": f"{tmp_path}/venv"}


def test_a_folder_without_an_environment_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "README").touch()
    with pytest.raises(EnvironmentFailed, match=r"neither activate.sh nor bin/python3 .*README"):
        ensure(str(tmp_path))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"/gone on here is not a folder"):
        ensure(f"{tmp_path}/gone")


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(EnvironmentFailed, match="must be absolute"):
        ensure("envs/prod")


def test_without_an_environment_the_login_shell_counts_and_it_is_said() -> None:
    log: list[str] = []
    assert LoginShell().ensure(HERE, "/base", log.append) == {}
    assert "login shell on here" in log[0]
