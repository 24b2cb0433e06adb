from __future__ import annotations

from sandbox.network import with_names, without_names

NAMES = [("10.77.0.1", "edge"), ("10.77.0.11", "n1")]
ADDED = "10.77.0.1 edge # ray-slurm-sandbox\n10.77.0.11 n1 # ray-slurm-sandbox\n"


def test_names_are_added_after_the_machines_own() -> None:
    assert with_names("127.0.0.1 localhost\n", NAMES) == "127.0.0.1 localhost\n" + ADDED


def test_adding_names_again_changes_nothing() -> None:
    once = with_names("127.0.0.1 localhost\n", NAMES)
    assert with_names(once, NAMES) == once


def test_a_last_line_without_newline_is_not_glued_to_ours() -> None:
    assert with_names("127.0.0.1 localhost", NAMES) == "127.0.0.1 localhost\n" + ADDED


def test_removing_names_leaves_every_other_line_as_it_was() -> None:
    others = "# mine\n127.0.0.1 localhost\n\n10.0.0.7 n1\n"
    assert without_names(with_names(others, NAMES)) == others
