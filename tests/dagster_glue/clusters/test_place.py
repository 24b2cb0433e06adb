"""The folder of a site for which this project makes folders and runs commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_glue.clusters.place import Place
from slurm_provider.errors import ConfigError
from slurm_provider.transport import LocalTransport


def test_it_is_made_private(tmp_path: Path) -> None:
    Place(LocalTransport(), f"{tmp_path}/a/base").make()
    assert (tmp_path / "a" / "base").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("open_to_all", ["", "base", "base/clusters", "base/runs"])
def test_it_is_refused_where_others_may_change_or_replace_it(
    tmp_path: Path, open_to_all: str
) -> None:
    base = tmp_path / "base"
    for name in ("clusters", "runs"):
        (base / name).mkdir(parents=True)
    place = Place(LocalTransport(), str(base))
    place.make()
    (tmp_path / open_to_all).chmod(0o777)
    with pytest.raises(ConfigError) as refused:
        place.make()
    assert str(refused.value).startswith(f"SlurmResource.remote_base {base} on here: {tmp_path}")
    assert "may be written by everybody" in str(refused.value)


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "base").symlink_to("real")
    with pytest.raises(ConfigError, match="/base is a link"):
        Place(LocalTransport(), f"{tmp_path}/base").make()


def test_where_it_cannot_be_made_the_systems_words_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Not a directory; choose a folder where you may write"):
        Place(LocalTransport(), f"{tmp_path}/file/base").make()
