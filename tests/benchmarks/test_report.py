from __future__ import annotations

from rich.console import Console

from benchmarks.report import Findings, Line, medians, phase_table, spread, table


def test_the_ratio_is_the_median_over_the_median() -> None:
    line = Line("a", "head", ours=(3.0, 100.0, 2.0), bare=(2.0, 1.0, 2.0))
    assert line.ratio == 1.5


def test_without_anything_to_compare_with_there_is_no_ratio() -> None:
    assert Line("e", "tick", ours=(3.0,)).ratio is None
    assert Line("e", "tick", ours=(3.0,), bare=(0.0,)).ratio is None


def test_an_aim_is_reached_at_exactly_its_value() -> None:
    assert Line("a", "head", (1.2,), (1.0,), aim_ratio=1.2).reached is True
    assert Line("a", "head", (1.3,), (1.0,), aim_ratio=1.2).reached is False
    assert Line("e", "tick", (50.0,), unit="ms", aim_value=50).reached is True
    assert Line("e", "tick", (50.1,), unit="ms", aim_value=50).reached is False


def test_a_line_without_an_aim_is_neither_reached_nor_missed() -> None:
    assert Line("a", "head", (1.0,), (1.0,)).reached is None


def test_the_json_keeps_every_value_and_what_follows_from_them() -> None:
    kept = Line("b", "task", (4.0, 6.0), (5.0,), aim_ratio=1.3).as_dict()
    assert kept["ours"] == [4.0, 6.0]
    assert (kept["ours_median"], kept["bare_median"], kept["ratio"]) == (5.0, 5.0, 1.0)
    assert kept["reached"] is True


def test_a_spread_shows_the_range_only_where_there_are_several_values() -> None:
    assert spread((), "s") == ""
    assert spread((4.2049,), "s") == "4.20 s"
    assert spread((10.0,), "") == "10"
    assert spread((1.0, 2.5, 3.25), "s") == "2.50 s (1 - 3.25)"


def test_the_table_names_each_item_once_and_says_what_was_missed() -> None:
    lines = [
        Line("a", "first", (2.0,), (1.0,), aim_ratio=1.2),
        Line("a", "second", (1.0,), (1.0,), aim_ratio=1.2),
    ]
    text = _text(table(lines))
    assert text.count("│ a ") == 1
    assert [word for word in ("missed", "2.00x", "<= 1.2x", "ok") if word not in text] == []


def test_moments_come_in_the_order_of_their_medians() -> None:
    repeats = [{"end": 5.0, "middle": 2.0}, {"middle": 4.0, "end": 7.0, "seen once": 1.0}]
    assert list(medians(repeats).items()) == [("seen once", 1.0), ("middle", 3.0), ("end", 6.0)]
    assert "seen once 1.00  ->  middle 3.00  ->  end 6.00" in _text(
        phase_table(Findings((), {"ours": repeats}), "up")
    )


def _text(renderable: object) -> str:
    console = Console(width=140, color_system=None)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()
