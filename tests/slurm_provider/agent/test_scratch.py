"""The node's temporary folder, against mistakes and against other users."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_provider.agent import scratch
from slurm_provider.agent.scratch import (
    MAX_TEMP_DIR_BYTES,
    ScratchError,
    make_parent,
    make_scratch,
    remove_scratch,
)

NODE = "abcdefghij-0"


@pytest.fixture
def base() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield folder


def parent(base: str) -> Path:
    return Path(base, f"rs-{os.getuid()}")


def test_the_folder_and_its_parent_are_private(base: str) -> None:
    previous = os.umask(0)
    try:
        path = Path(make_scratch(NODE, base, {}))
    finally:
        os.umask(previous)
    assert path == parent(base) / NODE
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent)] == [0o700, 0o700]


def plant(base: str, kind: str, victim: Path) -> None:
    """What another user does before a node of ours starts."""
    if kind == "link":
        parent(base).symlink_to(victim)
    elif kind == "file":
        parent(base).touch()
    elif os.getuid() == 0:
        parent(base).mkdir(mode=0o777)
        os.chown(parent(base), 12345, 12345)
    else:
        pytest.skip("giving a folder away needs root")


@pytest.mark.parametrize("kind", ["link", "file", "folder"])
def test_what_another_user_planted_costs_nothing(base: str, kind: str, tmp_path: Path) -> None:
    plant(base, kind, tmp_path)
    first = Path(make_scratch(NODE, base, {}))
    assert first.name == NODE and re.fullmatch(r"rs\.[a-z2-7]{5}", first.parent.name)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (first, first.parent)] == [0o700, 0o700]
    second = Path(make_scratch("bcdefghijk-0", base, {}))
    assert second.parent == first.parent  # so that nodes of ours find each other
    assert list(tmp_path.iterdir()) == []
    for path in (first, second):
        remove_scratch(str(path))
    assert sorted(os.listdir(base)) == [parent(base).name]


def test_a_folder_of_another_users_other_name_is_not_taken_either(base: str) -> None:
    plant(base, "folder", Path())
    planted = Path(base, "rs.aaaaa")
    planted.mkdir(mode=0o777)
    os.chown(planted, 12345, 12345)
    assert Path(make_scratch(NODE, base, {})).parent not in (planted, parent(base))
    assert list(planted.iterdir()) == []


def test_the_path_of_another_users_node_can_be_a_heads(base: str) -> None:
    make_parent(f"{base}/rs.abcde/head-0")  # for the link of agent/earlier_ray.py
    assert stat.S_IMODE(Path(base, "rs.abcde").stat().st_mode) == 0o700
    with pytest.raises(PermissionError, match="not below a folder for Ray's nodes"):
        make_parent(f"{base}/elsewhere/head-0")


def test_a_folder_in_which_others_may_replace_ours_is_passed_over(base: str) -> None:
    bad, good = Path(base, "b"), Path(base, "g")
    bad.mkdir()
    bad.chmod(0o777)
    good.mkdir()
    with pytest.raises(ScratchError, match=rf"{bad} \(mode 777\) may be written by everybody"):
        make_scratch(NODE, str(bad), {})
    assert make_scratch(NODE, None, {"SLURM_TMPDIR": str(bad), "TMPDIR": str(good)}).startswith(
        str(good)
    )
    assert list(bad.iterdir()) == []
    bad.chmod(0o1777)
    assert make_scratch(NODE, str(bad), {}).startswith(str(bad))


def test_a_parent_that_became_public_is_closed_again(base: str) -> None:
    parent(base).mkdir()
    parent(base).chmod(0o777)
    make_scratch(NODE, base, {})
    assert stat.S_IMODE(parent(base).stat().st_mode) == 0o700


def test_a_planted_node_folder_is_not_taken_over(base: str) -> None:
    (parent(base) / NODE).mkdir(parents=True)
    with pytest.raises(ScratchError, match="File exists"):
        make_scratch(NODE, base, {})


def test_a_path_that_leaves_no_room_for_rays_sockets_is_refused(base: str) -> None:
    longer = Path(base, "x" * 40)
    longer.mkdir()
    with pytest.raises(ScratchError, match=f"longer than {MAX_TEMP_DIR_BYTES} bytes"):
        make_scratch(NODE, str(longer), {})
    assert list(longer.iterdir()) == []


def test_rays_longest_socket_fits_below_the_longest_folder() -> None:
    session = "/session_2026-11-22_23-55-39_123456_1234567/sockets/plasma_store"
    assert MAX_TEMP_DIR_BYTES + len(session) <= 107


def test_the_first_folder_that_works_is_taken(base: str, tmp_path: Path) -> None:
    too_long = tmp_path / ("x" * 60)
    too_long.mkdir()
    environ = {"SLURM_TMPDIR": str(too_long), "TMPDIR": base}
    assert make_scratch(NODE, None, environ).startswith(base)


def test_a_configured_folder_is_taken_or_refused_but_never_replaced(base: str) -> None:
    with pytest.raises(ScratchError, match=r"/nonexistent/rs-.*: No such file or directory"):
        make_scratch(NODE, "/nonexistent", {"TMPDIR": base})
    assert not parent(base).exists()


def test_the_parent_goes_with_the_last_of_two_nodes(base: str) -> None:
    first = make_scratch("aaaaaaaaaa-0", base, {})
    second = make_scratch("aaaaaaaaaa-1", base, {})
    Path(first, "session", "logs").mkdir(parents=True)
    remove_scratch(first)
    assert not Path(first).exists() and Path(second).is_dir()
    remove_scratch(second)
    assert not parent(base).exists()


def test_removing_twice_is_harmless(base: str) -> None:
    path = make_scratch(NODE, base, {})
    remove_scratch(path)
    remove_scratch(path)


def test_a_parent_taken_along_by_a_leaving_node_is_made_again(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_private, leaves_left = scratch._make_private, [2]

    def make_private_and_lose_it(path: str) -> None:
        make_private(path)
        if leaves_left[0]:
            leaves_left[0] -= 1
            os.rmdir(path)

    monkeypatch.setattr(scratch, "_make_private", make_private_and_lose_it)
    assert Path(make_scratch(NODE, base, {})).is_dir()
