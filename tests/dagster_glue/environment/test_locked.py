"""Packing a lock file with uv, unpacked as a node does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_glue.environment import EnvironmentFailed, LockedEnvironment
from dagster_glue.environment.locked import find_uv
from slurm_provider.transport import LocalTransport
from tests.dagster_glue.environment.conftest import MakeWheel, on_a_node

HERE = LocalTransport()


def requirements(folder: Path, *lines: str) -> str:
    path = folder / "requirements.txt"
    path.write_text("\n".join(["--no-index", f"--find-links {folder / 'wheels'}", *lines]))
    return str(path)


@pytest.mark.usefixtures("uv")
def test_packages_and_their_programs_run_wherever_they_are_unpacked(
    tmp_path: Path, make_wheel: MakeWheel
) -> None:
    make_wheel("hello", says="good day")
    locked = LockedEnvironment(requirements(tmp_path, "hello==1.0"), python="/usr/bin/python3")
    log: list[str] = []
    environment = locked.ensure(HERE, str(tmp_path / "base"), log.append)
    assert environment.keys() == {"archive"}
    for node in ("n1", "another node"):
        disk = tmp_path / node
        says, _, rest = on_a_node(disk, environment, "hello", "a b").partition(" day ")
        assert (says, rest.startswith(f"{disk}/rs-env-"), rest[-3:]) == ("good", True, "a b")
    assert not any("does not pin" in line for line in log)


@pytest.mark.usefixtures("uv")
def test_nothing_is_taken_from_the_clusters_own_packages(
    tmp_path: Path, make_wheel: MakeWheel
) -> None:
    make_wheel("hello")
    locked = LockedEnvironment(requirements(tmp_path, "hello==1.0"), python="/usr/bin/python3")
    environment = locked.ensure(HERE, str(tmp_path / "base"), lambda words: None)
    path = on_a_node(tmp_path / "n1", environment, "python3", "-c", "import sys; print(sys.path)")
    assert "dist-packages" not in path
    data = on_a_node(
        tmp_path / "n1", environment, "python3", "-c",
        "import sys; print(open(sys.prefix + '/share/hello/note.txt').read())",
    )  # fmt: skip
    assert data == "data"


@pytest.mark.usefixtures("uv")
def test_the_same_lock_file_is_packed_once(tmp_path: Path, make_wheel: MakeWheel) -> None:
    wheel = make_wheel("hello")
    locked = LockedEnvironment(requirements(tmp_path, "hello==1.0"), python="/usr/bin/python3")
    first = locked.ensure(HERE, str(tmp_path / "base"), lambda words: None)
    wheel.unlink()  # packing again would fail
    assert locked.ensure(HERE, str(tmp_path / "base"), lambda words: None) == first


@pytest.mark.usefixtures("uv")
def test_what_uv_cannot_install_is_said_in_its_words(tmp_path: Path, make_wheel: MakeWheel) -> None:
    make_wheel("hello")
    locked = LockedEnvironment(requirements(tmp_path, "hello==2.0"), python="/usr/bin/python3")
    with pytest.raises(EnvironmentFailed, match=r"hello==2\.0"):
        locked.ensure(HERE, str(tmp_path / "base"), lambda words: None)


@pytest.mark.usefixtures("uv")
def test_wheels_for_another_machine_are_not_taken(tmp_path: Path, make_wheel: MakeWheel) -> None:
    make_wheel("hello", tag="py3-none-manylinux_2_17_riscv64")
    locked = LockedEnvironment(requirements(tmp_path, "hello==1.0"), python="/usr/bin/python3")
    with pytest.raises(EnvironmentFailed, match="hello"):
        locked.ensure(HERE, str(tmp_path / "base"), lambda words: None)


@pytest.mark.usefixtures("uv")
def test_a_uv_lock_gives_its_packages_without_the_project_and_its_tools(
    tmp_path: Path, make_wheel: MakeWheel
) -> None:
    for name in ("hello", "tool"):
        make_wheel(name)
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.10"\n'
        'dependencies = ["hello"]\n[dependency-groups]\ndev = ["tool"]\n'
        f'[tool.uv]\nno-index = true\nfind-links = ["{tmp_path / "wheels"}"]\n'
    )
    subprocess.run([find_uv(), "lock", "-q"], cwd=project, check=True, timeout=60)
    locked = LockedEnvironment(str(project / "uv.lock"), python="/usr/bin/python3")
    environment = locked.ensure(HERE, str(tmp_path / "base"), lambda words: None)
    names = on_a_node(
        tmp_path / "n1", environment, "python3", "-c",
        "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))",
    )  # fmt: skip
    assert names == "hello"


def test_without_uv_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", os.path.realpath("/usr/bin/python3"))
    (tmp_path / "requirements.txt").write_text("ray==2.60.0\n")
    locked = LockedEnvironment(str(tmp_path / "requirements.txt"), python="/usr/bin/python3")
    with pytest.raises(EnvironmentFailed, match="pip install uv"):
        locked.ensure(HERE, str(tmp_path / "base"), lambda words: None)


@pytest.mark.usefixtures("uv")
def test_a_pylock_gives_its_packages(
    tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel("hello", says="good day")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (tmp_path / "pylock.cluster.toml").write_text(
        'lock-version = "1.0"\ncreated-by = "a test"\nrequires-python = ">=3.10"\n'
        '[[packages]]\nname = "hello"\nversion = "1.0"\n'
        f'wheels = [{{ path = "wheels/{wheel.name}", hashes = {{ sha256 = "{digest}" }} }}]\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    locked = LockedEnvironment("~/pylock.cluster.toml", python="/usr/bin/python3")
    environment = locked.ensure(HERE, str(tmp_path / "base"), lambda words: None)
    assert on_a_node(tmp_path / "n1", environment, "hello").startswith("good day")
