"""A pixi project. No registry that can be reached from here has pixi, so two stand-ins take its
place: a packer, and a program `pixi` that writes a self-extractor as pixi-pack does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dagster_glue.environment import (
    EnvironmentFailed,
    PixiCommand,
    PixiEnvironment,
    Target,
)
from slurm_provider.config import EnvironmentConfig
from slurm_provider.fleet.launch import activation
from slurm_provider.transport import LocalTransport

HERE = LocalTransport()

# As pixi-pack's: makes env/ and activate.sh in --output-directory; leaves its temporary files.
EXTRACTOR = """#!/usr/bin/env bash
set -eu
tmp=$(mktemp -d); echo unpacked >> "$tmp/archive.tar"
[ "$1" = --output-directory ]
mkdir -p "$2/env/bin"
printf '#!/bin/sh\\necho "hello from %s"\\n' "$2" > "$2/env/bin/hello"
chmod +x "$2/env/bin/hello"
echo "export PATH=\\"$2/env/bin:$PATH\\" GDAL_DATA=\\"$2/env/share/gdal\\"" > "$2/activate.sh"
echo unpacked >> "$COUNT"
exit 0
@@END_HEADER@@
"""


@dataclass
class StandIn:
    """A packer without pixi."""

    identity: str = "environment default"
    calls: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)

    def pack(self, project: str, platform: str, inject: Sequence[str], output: str) -> None:
        self.calls.append((project, platform, tuple(inject)))
        Path(output).write_text(EXTRACTOR)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pixi.lock").write_text("version: 6\n")
    return folder


@pytest.fixture
def pixi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program pixi; what it was called with is in the file."""
    programs, calls = tmp_path / "programs", tmp_path / "calls"
    programs.mkdir()
    (tmp_path / "extractor").write_text(EXTRACTOR)
    (programs / "pixi").write_text(
        f'#!/bin/sh\necho "$*" >> {calls}\n'
        "out=environment.sh\n"
        'while [ $# -gt 0 ]; do [ "$1" = --output-file ] && out=$2; shift; done\n'
        f'cp {tmp_path}/extractor "$out"\n'
    )
    (programs / "pixi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return calls


def on_a_node(tmp_path: Path, environment: dict[str, str], command: str) -> str:
    disk = tmp_path / "node"
    disk.mkdir(exist_ok=True)
    lines = activation(EnvironmentConfig.model_validate(environment), "unused")
    done = subprocess.run(
        ["bash", "-c", lines + command],
        env={"PATH": "/usr/bin:/bin", "SLURM_TMPDIR": str(disk), "COUNT": f"{tmp_path}/count"},
        capture_output=True, text=True, timeout=60, cwd="/", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_environment_is_made_once_on_each_host_with_its_variables(
    tmp_path: Path, project: Path
) -> None:
    environment = PixiEnvironment(str(project), StandIn()).ensure(
        HERE, str(tmp_path / "base"), lambda words: None
    )
    for _ in range(2):
        found = on_a_node(tmp_path, environment, 'hello; echo "$GDAL_DATA"')
        hello, gdal = found.splitlines()
        prefix = hello.removeprefix("hello from ")
        assert prefix.startswith(f"{tmp_path}/node/rs-env-")
        assert gdal == f"{prefix}/env/share/gdal"
    assert (tmp_path / "count").read_text().splitlines() == ["unpacked"]
    assert sorted(path.name for path in Path(prefix).iterdir()) == [
        ".complete", "activate.sh", "bin", "env",
    ]  # fmt: skip


def test_it_is_packed_once_for_a_lock_file_and_platform(tmp_path: Path, project: Path) -> None:
    packer = StandIn()

    def ensure(platform: str) -> dict[str, str]:
        environment = PixiEnvironment(str(project), packer, target=Target(pack_platform=platform))
        return environment.ensure(HERE, str(tmp_path / "base"), lambda words: None)

    assert ensure("linux-64") == ensure("linux-64")
    ensure("linux-aarch64")
    (project / "pixi.lock").write_text("version: 6\n# newer\n")
    ensure("linux-64")
    assert [platform for _, platform, _ in packer.calls] == [
        "linux-64", "linux-aarch64", "linux-64",
    ]  # fmt: skip


def test_the_newest_injected_package_counts(tmp_path: Path, project: Path) -> None:
    packer = StandIn()
    environment = PixiEnvironment(str(project), packer, inject=("dist/mine-*.conda",))
    dist = project / "dist"
    dist.mkdir()
    for age, name in enumerate(["mine-2.conda", "mine-1.conda"]):
        (dist / name).write_text(name)
        os.utime(dist / name, (1000 - age, 1000 - age))
    environment.ensure(HERE, str(tmp_path / "base"), lambda words: None)
    assert packer.calls[0][2] == (f"{dist}/mine-2.conda",)
    (dist / "mine-3.conda").write_text("3")
    environment.ensure(HERE, str(tmp_path / "base"), lambda words: None)
    assert packer.calls[1][2] == (f"{dist}/mine-3.conda",)


def test_an_injected_package_that_was_not_built_is_named(tmp_path: Path, project: Path) -> None:
    environment = PixiEnvironment(str(project), StandIn(), inject=("dist/*.whl",))
    with pytest.raises(EnvironmentFailed, match=r"inject pattern 'dist/\*\.whl'"):
        environment.ensure(HERE, str(tmp_path / "base"), lambda words: None)


def test_a_project_without_a_lock_file_is_told_to_lock(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="pixi lock"):
        PixiEnvironment(str(tmp_path), StandIn()).ensure(HERE, str(tmp_path), lambda words: None)


def test_pixi_pack_is_called_for_the_platform(project: Path, pixi: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out.sh")
    PixiCommand("prod").pack(str(project), "linux-aarch64", ["a.conda"], output)
    assert Path(output).read_text() == EXTRACTOR
    assert pixi.read_text() == (
        "exec pixi-pack --environment prod --platform linux-aarch64 --create-executable "
        f"--output-file {output} --inject a.conda {project}\n"
    )


@pytest.mark.parametrize(
    ("platform", "task"), [("linux-64", "pack-only"), ("linux-aarch64", "pack-only-aarch")]
)
def test_a_task_of_the_project_is_run_for_the_platform(
    project: Path, pixi: Path, tmp_path: Path, platform: str, task: str
) -> None:
    PixiCommand(task="pack-only").pack(str(project), platform, [], str(tmp_path / "out.sh"))
    assert (tmp_path / "out.sh").read_text() == EXTRACTOR
    assert pixi.read_text() == f"run --frozen {task}\n"
    assert not (project / "environment.sh").exists()


def test_what_pixi_says_when_it_fails_is_passed_on(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pixi").write_text("#!/bin/sh\necho no such task >&2\nexit 3\n")
    (tmp_path / "pixi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EnvironmentFailed, match=r"(?s)exit code 3.*no such task"):
        PixiCommand(task="pack").pack(str(project), "linux-64", [], str(tmp_path / "out.sh"))


def test_without_pixi_the_next_step_is_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFailed, match=r"https://pixi\.sh"):
        PixiCommand().pack(str(project), "linux-64", [], str(tmp_path / "out.sh"))
