"""Folders of ours and what other users may do to them, with real owners and modes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slurm_provider import own_folder
from slurm_provider.errors import ClusterError, ConfigError
from slurm_provider.fleet.store import ClusterStore
from slurm_provider.transport import LocalTransport

US, STRANGER, GROUP = 12345, 12346, 12347
Look = Callable[..., str]

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="giving folders away needs root")


@pytest.fixture
def site() -> Iterator[Path]:
    """A folder of root's that all may enter, with our home in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        folder(Path(name, "home"), US, 0o700)
        yield Path(name)


@pytest.fixture
def look(site: Path) -> Look:
    """What `look_own_folder`, or another function, says to user ``US``."""

    def look(path: Path, *names: str, function: str = "look_own_folder") -> str:
        done = subprocess.run(
            ["sh", "-s", "--", str(path), *names], input=own_folder.script() +
            f'{function} "$@"\n'.encode(), capture_output=True, user=US, group=US,
            extra_groups=[GROUP], env={"PATH": os.environ["PATH"], "HOME": f"{site}/home"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode().strip()

    return look


def folder(path: Path, owner: int, mode: int, group: int | None = None) -> Path:
    path.mkdir()
    os.chown(path, owner, owner if group is None else group)
    path.chmod(mode)
    return path


def test_a_folder_of_ours_below_roots_is_fine(site: Path, look: Look) -> None:
    assert look(folder(site / "ours", US, 0o755)) == ""
    assert look(folder(site / "its users", US, 0o2750)) == ""


def test_a_folder_that_is_not_there_is_as_good_as_the_way_to_it(site: Path, look: Look) -> None:
    assert look(site / "home" / "a" / "b") == ""
    shared = folder(site / "shared", STRANGER, 0o755)
    said = look(shared / "a" / "b")
    assert said == f"{shared} belongs to UNKNOWN, who may replace what is in it"


@pytest.mark.parametrize(
    ("owner", "mode", "words"),
    [
        (STRANGER, 0o700, "belongs to UNKNOWN"),
        (0, 0o755, "belongs to root"),
        (US, 0o777, "(mode 777) may be written by everybody"),
        (US, 0o1777, "(mode 1777) may be written by everybody"),
        (US, 0o770, "(mode 770) may be written by its group UNKNOWN"),
    ],
)
def test_a_folder_that_others_may_change_is_not(
    site: Path, look: Look, owner: int, mode: int, words: str
) -> None:
    assert look(folder(site / "x", owner, mode)) == f"{site}/x {words}"


def test_a_link_is_not_even_ours_to_ours(site: Path, look: Look) -> None:
    folder(site / "ours", US, 0o700)
    (site / "link").symlink_to(site / "ours")
    os.chown(site / "link", US, US, follow_symlinks=False)
    assert look(site / "link") == f"{site}/link is a link"


@pytest.mark.parametrize(
    ("owner", "mode", "words"),
    [
        (0, 0o755, ""),
        (0, 0o1777, ""),  # as /tmp
        (0, 0o3775, ""),
        (US, 0o755, ""),
        (0, 0o777, "may be written by everybody"),
        (0, 0o2770, "(mode 2770) may be written by its group UNKNOWN"),
        (US, 0o775, "may be written by its group"),
        (STRANGER, 0o755, "belongs to UNKNOWN, who may replace"),
        (STRANGER, 0o1777, "belongs to UNKNOWN, who may replace"),
    ],
)
def test_parents_must_not_be_replaceable(
    site: Path, look: Look, owner: int, mode: int, words: str
) -> None:
    parent = folder(site / "parent", owner, mode, GROUP)
    said = look(folder(parent / "ours", US, 0o700))
    assert said.startswith(str(parent)) and words in said if words else said == ""


def test_links_on_the_way_are_followed_and_must_not_be_replaceable_either(
    site: Path, look: Look
) -> None:
    real = folder(site / "real", 0, 0o755)
    folder(real / "ours", US, 0o700)
    (site / "homes").symlink_to("real")
    assert look(site / "homes" / "ours") == ""
    bad = folder(site / "bad", STRANGER, 0o755)
    (bad / "link").symlink_to(real)
    (site / "over").symlink_to("bad/link")
    assert look(site / "over" / "ours").startswith(f"{bad} belongs to")
    os.chown(site / "over", STRANGER, STRANGER, follow_symlinks=False)
    assert look(site / "over" / "ours").startswith(f"{site}/over belongs to")


def test_above_our_home_nothing_counts_and_home_itself_does(site: Path, look: Look) -> None:
    site.chmod(0o777)
    ours = folder(site / "home" / "ours", US, 0o700)
    assert look(ours) == ""
    (site / "home").chmod(0o770)
    assert look(ours) == f"{site}/home (mode 770) may be written by its group UNKNOWN"


def test_a_home_behind_a_link_is_home_by_both_names(site: Path, look: Look) -> None:
    (site / "home").rename(site / "disk")
    (site / "home").symlink_to("disk")
    folder(site / "disk" / "ours", US, 0o700)
    site.chmod(0o777)
    assert look(site / "home" / "ours") == ""
    assert look(site / "disk" / "ours") == ""


def test_our_private_group_is_us() -> None:
    """Of root's, which is in every group file; a user without an entry has none."""
    asked = own_folder.script() + b'if is_private_group "$1"; then echo private; fi\n'
    for gid, words in ((0, "private\n"), (GROUP, "")):
        done = subprocess.run(["sh", "-s", str(gid)], input=asked, capture_output=True)
        assert done.stdout.decode() == words


def test_things_of_others_in_a_folder_of_ours_are_found_by_name(site: Path, look: Look) -> None:
    ours = folder(site / "ours", US, 0o700)
    for name, owner, mode in (("code", STRANGER, 0o755), ("nodes", US, 0o777), ("logs", US, 0o700)):
        folder(ours / name, owner, mode)
    (ours / "token").symlink_to("elsewhere")
    assert look(ours, "logs/", "missing") == ""
    assert look(ours, "code") == f"{ours}/code belongs to UNKNOWN"
    assert look(ours, "logs", "nodes/") == f"{ours}/nodes (mode 777) may be written by everybody"
    assert look(ours, "token") == f"{ours}/token is a link"


def test_what_is_made_is_private_and_nothing_is_made_where_others_may_replace_it(
    site: Path, look: Look
) -> None:
    new = site / "home" / "a" / "b"
    assert look(new, "nodes/", "token", function="make_own_folder") == ""
    assert [path.stat().st_mode & 0o777 for path in (new.parent, new, new / "nodes")] == [0o700] * 3
    assert [path.name for path in new.iterdir()] == ["nodes"]
    bad = folder(site / "bad", 0, 0o777)
    assert "everybody" in look(bad / "new", function="make_own_folder")
    assert list(bad.iterdir()) == []


# -- the cluster's folder ---------------------------------------------------------------------


def test_a_cluster_is_not_made_in_a_folder_of_another_user(tmp_path: Path) -> None:
    store = ClusterStore(LocalTransport(), str(tmp_path / "demo"))
    folder(tmp_path / "demo", STRANGER, 0o777)
    for refused in (
        store.check_own, store.check_private, lambda: store.create("demo"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as error:
            refused()
        words = str(error.value)
        assert words.startswith(f"provider.cluster_dir {tmp_path}/demo on here: {tmp_path}/demo ")
        assert "chmod go-w" in words and "\n" not in words
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.mark.parametrize("name", ["code", "launches", "nodes", "token", "cluster.json"])
def test_a_cluster_is_not_used_with_anything_of_another_user_in_it(
    tmp_path: Path, name: str
) -> None:
    store = ClusterStore(LocalTransport(), str(tmp_path / "demo"))
    store.create("demo")
    store.renew_token()
    store.install_code()
    store.check_private()
    os.chown(tmp_path / "demo" / name, STRANGER, STRANGER)
    with pytest.raises(ConfigError, match=f"/demo/{name} belongs to"):
        store.check_private()


def test_a_folder_that_cannot_be_made_is_said_in_the_systems_words() -> None:
    store = ClusterStore(LocalTransport(), "/proc/none/demo")
    with pytest.raises(ClusterError, match="cannot be used: No such file or directory"):
        store.create("demo")
