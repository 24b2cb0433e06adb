"""A conda prefix, packed by the real conda-pack and by a program that records its calls."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from dagster_glue.environment import CondaEnvironment, EnvironmentFailed, Target
from dagster_glue.environment.conda import describe_prefix
from slurm_provider.transport import LocalTransport
from tests.dagster_glue.environment.conftest import on_a_node

HERE = LocalTransport()
LINUX = Target(pack_platform="linux-64")


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    folder = tmp_path / "conda env"
    add(folder, "python-3.11-h1_0", "linux-64")
    add(folder, "tzdata-2024a-h0_0", "noarch")
    return folder


@pytest.fixture
def conda_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A conda-pack that packs the prefix as it is; what it was called with is in the file."""
    programs = tmp_path / "programs"
    programs.mkdir()
    calls = tmp_path / "calls"
    (programs / "conda-pack").write_text(
        f'#!/bin/sh\necho "$*" >> {calls}\n[ "$1" = --prefix ] && [ "$3" = --output ] || exit 9\n'
        'tar -czf "$4" -C "$2" .\n'
    )
    (programs / "conda-pack").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return calls


@pytest.fixture
def real_conda_pack() -> None:
    beside = Path(sys.executable).with_name("conda-pack")
    if not beside.exists() and shutil.which("conda-pack") is None:
        pytest.skip("conda-pack is not installed (pip install '.[dev]')")


PLACEHOLDER = "/opt/anaconda1anaconda2anaconda3"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A prefix as conda leaves it, of a Python and a package whose file names the prefix."""
    prefix = tmp_path / "conda env"
    contents = {
        "python": {"bin/python": '#!/bin/sh\nexec /usr/bin/python3 "$@"\n'},
        "hello": {
            "bin/hello": '#!/bin/sh\ncat "$(dirname "$0")/../etc/prefix"\n',
            "etc/prefix": f"installed in {PLACEHOLDER}\n",
        },
    }
    for name, texts in contents.items():
        cached = tmp_path / "pkgs" / f"{name}-1.0-0"
        paths = []
        for path, text in texts.items():
            for root, content in (
                (cached, text), (prefix, text.replace(PLACEHOLDER, str(prefix)))
            ):  # fmt: skip
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(content)
                (root / path).chmod(0o755)
            about = {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
            paths.append(
                {"_path": path, "path_type": "hardlink", **(about if PLACEHOLDER in text else {})}
            )
        (cached / "info").mkdir()
        (cached / "info" / "paths.json").write_text(json.dumps({"paths": paths}))
        (prefix / "conda-meta").mkdir(exist_ok=True)
        record = {
            "name": name, "version": "1.0", "build": "0", "url": f"file://{cached}",
            "subdir": "linux-64", "files": list(texts),
            "link": {"source": str(cached), "type": 1},
        }  # fmt: skip
        (prefix / "conda-meta" / f"{name}-1.0-0.json").write_text(json.dumps(record))
    (prefix / "conda-meta" / "history").touch()
    return prefix


def add(prefix: Path, package: str, subdir: str) -> None:
    (prefix / "conda-meta").mkdir(parents=True, exist_ok=True)
    (prefix / "conda-meta" / f"{package}.json").write_text(json.dumps({"subdir": subdir}))


def test_a_prefix_is_packed_once(tmp_path: Path, prefix: Path, conda_pack: Path) -> None:
    environment = CondaEnvironment(str(prefix), LINUX)
    first = environment.ensure(HERE, str(tmp_path / "base"), lambda words: None)
    assert environment.ensure(HERE, str(tmp_path / "base"), lambda words: None) == first
    with tarfile.open(first["archive"]) as tar:
        assert "./conda-meta/python-3.11-h1_0.json" in tar.getnames()
    assert len(conda_pack.read_text().splitlines()) == 1


@pytest.mark.usefixtures("real_conda_pack")
def test_what_conda_pack_packs_learns_its_new_place_where_it_is_unpacked(
    tmp_path: Path, installed: Path
) -> None:
    environment = CondaEnvironment(str(installed), LINUX).ensure(
        HERE, str(tmp_path / "base"), lambda words: None
    )
    for node in ("n1", "another node"):
        assert on_a_node(tmp_path / node, environment, "hello").startswith(
            f"installed in {tmp_path / node}/rs-env-"
        )


def test_another_package_of_conda_or_pip_is_another_content(prefix: Path) -> None:
    keys = [describe_prefix(str(prefix))[0]]
    add(prefix, "numpy-2.0-h2_0", "linux-64")
    keys.append(describe_prefix(str(prefix))[0])
    info = prefix / "lib" / "python3.11" / "site-packages" / "ray-2.60.0.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text("ray/__init__.py,,\n")
    keys.append(describe_prefix(str(prefix))[0])
    assert len(set(keys)) == 3
    assert describe_prefix(str(prefix)) == (keys[2], "linux-64")


def test_a_prefix_for_another_platform_is_refused(tmp_path: Path, prefix: Path) -> None:
    environment = CondaEnvironment(str(prefix), Target(pack_platform="linux-aarch64"))
    with pytest.raises(EnvironmentFailed, match=r"made for linux-64, the cluster needs linux-aa"):
        environment.ensure(HERE, str(tmp_path / "base"), lambda words: None)


def test_a_folder_that_is_no_conda_prefix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="is not a conda prefix"):
        CondaEnvironment(str(tmp_path), LINUX).ensure(HERE, str(tmp_path), lambda words: None)


def test_without_conda_pack_the_next_step_is_named(
    tmp_path: Path, prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(EnvironmentFailed, match="pip install conda-pack"):
        CondaEnvironment(str(prefix), LINUX).ensure(HERE, str(tmp_path), lambda words: None)
