"""Files to a node and back, with a shell here in the node's place."""

from __future__ import annotations

import builtins
import tarfile
from pathlib import Path
from typing import Any

import pytest

from slurm_provider.copying import download, upload
from slurm_provider.errors import ClusterError
from slurm_provider.excludes import Excludes
from slurm_provider.transport import LocalTransport, Process


def start(command: str) -> Process:
    return LocalTransport().popen(["bash", "-c", command])


def test_a_folder_goes_there_and_back(tmp_path: Path) -> None:
    source = tmp_path / "it's here"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "data").write_bytes(b"\0\xff" * 100_000)
    (source / "left.log").write_text("no")
    upload(start, str(source), f"{tmp_path}/there $x", Excludes(("*.log",)))
    download(start, f"{tmp_path}/there $x", f"{tmp_path}/back")
    found = {path.relative_to(tmp_path / "back") for path in (tmp_path / "back").rglob("*")}
    assert found == {Path("sub"), Path("sub/data")}
    assert (tmp_path / "back/sub/data").read_bytes() == (source / "sub/data").read_bytes()


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    secret = tmp_path / "code" / "secret"
    secret.write_text("x")

    def open_as_another(name: Any, *args: Any) -> Any:  # root, as in CI, may read all files
        if name == str(secret):
            raise PermissionError(13, "Permission denied", name)
        return builtins.open(name, *args)

    monkeypatch.setattr(tarfile, "bltn_open", open_as_another)
    with pytest.raises(ClusterError, match=rf"{secret} cannot be read .*\(Permission denied\)"):
        upload(start, str(tmp_path / "code"), f"{tmp_path}/there", Excludes())


def test_where_nothing_can_be_written_the_other_side_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(10_000_000))  # more than a pipe holds
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError, match=r"exit code 1\): mkdir: .*Not a directory"):
        upload(start, str(tmp_path / "data"), f"{tmp_path}/file/sub/data", Excludes())


def test_a_missing_file_is_said_in_the_other_side_s_words(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="No such file"):
        download(start, f"{tmp_path}/none", f"{tmp_path}/back")
    assert not (tmp_path / "back").exists()
