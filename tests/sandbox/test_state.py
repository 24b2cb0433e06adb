from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.layout import Shape
from sandbox.processes import ProcessId
from sandbox.state import State, current_boot_id, load_state


def test_a_saved_state_is_read_back_whole(tmp_path: Path) -> None:
    state = State(
        shape=Shape(hosts=5, proctrack="cgroup"),
        boot_id="b",
        env_prefix="/opt/env",
        is_complete=True,
        has_firewall_rule=True,
        has_sshd_folder=True,
        processes={"slurmctld": ProcessId(12, 34)},
    )
    state.save(tmp_path / "state.json")
    assert load_state(tmp_path / "state.json") == state


def test_the_state_is_for_root_only(tmp_path: Path) -> None:
    State(Shape(), "b").save(tmp_path / "state.json")
    assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", '{"shape"', "{}", "[]"])
def test_a_broken_state_file_is_no_state(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)
    assert load_state(tmp_path / "state.json") is None


def test_no_state_file_is_no_state(tmp_path: Path) -> None:
    assert load_state(tmp_path / "state.json") is None


def test_a_state_of_before_a_reboot_is_told_apart() -> None:
    assert State(Shape(), current_boot_id()).is_of_this_boot()
    assert not State(Shape(), "another boot").is_of_this_boot()
