from __future__ import annotations

from pathlib import Path

import pytest

from dagster_glue.environment import EnvironmentFailed
from dagster_glue.environment.locked import content_key
from dagster_glue.environment.platforms import Interpreter
from dagster_glue.environment.requirement_files import read_locked

PYTHON = Interpreter("/usr/bin/python3.11", (3, 11, 2), (2, 36))


def requirements(folder: Path, text: str, name: str = "requirements.txt") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def key(path: str, platform: str = "x86_64-manylinux_2_36", python: Interpreter = PYTHON) -> str:
    return content_key(read_locked(path), platform, python)


def test_files_that_are_named_in_the_file_belong_to_the_content(tmp_path: Path) -> None:
    requirements(tmp_path, "numpy==2.0\n", "base.txt")
    requirements(tmp_path, "idna==3.1\n", "limits.txt")
    top = requirements(tmp_path, "-r base.txt\n--constraint=limits.txt\nray==2.60.0\n")
    before = key(top)
    assert key(top) == before
    requirements(tmp_path, "numpy==2.1\n", "base.txt")
    after_base = key(top)
    requirements(tmp_path, "idna==3.2\n", "limits.txt")
    assert len({before, after_base, key(top)}) == 3


def test_files_that_name_each_other_are_read_once(tmp_path: Path) -> None:
    requirements(tmp_path, "-r requirements.txt\n", "other.txt")
    top = requirements(tmp_path, "-r other.txt\n")
    assert [name for name, _ in read_locked(top).contents] == ["requirements.txt", "other.txt"]


def test_another_platform_or_python_is_another_content(tmp_path: Path) -> None:
    top = requirements(tmp_path, "ray==2.60.0\n")
    newer = Interpreter("/usr/bin/python3.12", (3, 12, 1), (2, 36))
    patched = Interpreter("/usr/bin/python3.11", (3, 11, 9), (2, 36))
    keys = [key(top), key(top, "aarch64-manylinux_2_36"), key(top, python=newer)]
    assert len(set(keys)) == 3
    assert key(top, python=patched) == keys[0]


@pytest.mark.parametrize("line", ["-e .", "--editable=../lib", "./lib", "mine @ file:///src/mine",
                                  "/home/me/lib"])  # fmt: skip
def test_own_code_as_a_folder_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(EnvironmentFailed, match="folder of own code"):
        read_locked(requirements(tmp_path, f"ray==2.60.0\n{line}\n"))


def test_a_built_wheel_counts_by_its_content(tmp_path: Path) -> None:
    wheel = tmp_path / "mine-1.0-py3-none-any.whl"
    wheel.write_bytes(b"one")
    top = requirements(tmp_path, f"./{wheel.name}\n")
    before = key(top)
    wheel.write_bytes(b"two")
    assert key(top) != before


def test_what_is_not_pinned_is_named(tmp_path: Path) -> None:
    top = requirements(
        tmp_path,
        "# comment\n--index-url https://example.org/simple\nray[default]==2.60.0 \\\n"
        "    --hash=sha256:aa\nnumpy>=2  # newer\nmine @ https://example.org/mine-1-py3.whl\n",
    )
    assert read_locked(top).unpinned == ("numpy>=2",)


def test_a_constraint_is_no_requirement(tmp_path: Path) -> None:
    requirements(tmp_path, "idna<4\n", "limits.txt")
    assert read_locked(requirements(tmp_path, "-c limits.txt\nray==2.60.0\n")).unpinned == ()


def test_a_uv_lock_counts_with_its_project(tmp_path: Path) -> None:
    requirements(tmp_path, "[project]\n", "pyproject.toml")
    top = requirements(tmp_path, "version = 1\n", "uv.lock")
    before = key(top)
    requirements(tmp_path, "[project]\nname='x'\n", "pyproject.toml")
    assert key(top) != before


@pytest.mark.parametrize("name", ["pylock.toml", "pylock.gpu.toml"])
def test_a_pylock_counts_by_its_content(tmp_path: Path, name: str) -> None:
    top = requirements(tmp_path, 'lock-version = "1.0"\n', name)
    before = key(top)
    requirements(tmp_path, 'lock-version = "1.0"\n[[packages]]\n', name)
    assert (key(top) != before, read_locked(top).unpinned) == (True, ())


@pytest.mark.parametrize("line", ["[packages.directory]", 'directory = { path = "." }'])
def test_own_code_in_a_pylock_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(EnvironmentFailed, match="folder of own code"):
        read_locked(requirements(tmp_path, f"[[packages]]\n{line}\n", "pylock.toml"))


@pytest.mark.parametrize("name", ["pyproject.toml", "poetry.lock", "Pipfile.lock", "pixi.lock",
                                  "mypylock.toml", "environment.yml"])  # fmt: skip
def test_files_of_other_tools_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(EnvironmentFailed, match=r"give a uv\.lock, a pylock\.toml"):
        read_locked(requirements(tmp_path, "", name))


def test_a_missing_lock_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"gone\.txt.*cannot be read"):
        read_locked(str(tmp_path / "gone.txt"))
