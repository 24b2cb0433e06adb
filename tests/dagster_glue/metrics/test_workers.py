from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree

import dagster as dg
import pytest

from dagster_glue.metrics import samples_of_jobs, worker_plot
from dagster_glue.metrics.workers import round_step, worker_svg
from slurm_provider.slurm import JobRecord, JobState

WIDEST = 7.5
"""Pixels of a character, more than the picture's size of letters (11) needs on average."""


def time_labels(span_s: float) -> list[str]:
    words: list[str] = re.findall(r">([^<>]+)</text>", worker_svg([(0.0, 0), (span_s, 1)]))
    return words[2:]  # after those of 0 and 1 workers


def worker(start: float | None, end: float | None) -> JobRecord:
    return JobRecord("1", "1", "ray", JobState.COMPLETED, 0, 0, "", 1, 1, 0.0, "n1", "compute", "a",
                     0.0, start, end, {})  # fmt: skip


def test_workers_over_time_follow_from_their_jobs() -> None:
    jobs = [worker(110, 150), worker(120, None), worker(None, 130), worker(10, 90), worker(50, 115)]
    assert samples_of_jobs(jobs, 100, 200) == [
        (100, 0), (100, 1), (110, 2), (115, 1), (120, 2), (150, 1), (200, 1),
    ]  # fmt: skip


def test_a_worker_that_ended_as_it_started_is_never_counted() -> None:
    assert samples_of_jobs([worker(110, 110)], 100, 200) == [(100, 0), (200, 0)]


def test_the_plot_is_a_picture_in_markdown() -> None:
    plot = worker_plot([(0.0, 0), (10.0, 2), (60.0, 0)])
    assert isinstance(plot, dg.MarkdownMetadataValue)
    match = re.fullmatch(
        r"!\[workers over time, at most 2\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)",
        plot.md_str or "",
    )
    assert match is not None
    ElementTree.fromstring(base64.b64decode(match[1]))


def test_the_line_steps_where_the_number_changes() -> None:
    svg = worker_svg([(0.0, 0), (50.0, 2), (75.0, 2), (100.0, 1)])
    line = re.findall(r'<path d="([^"]+)" stroke="#1f77b4"', svg)
    assert line == ["M42.0,112.0H247.0V10.0H452.0V61.0H452.0"]


def test_many_workers_get_a_readable_scale() -> None:
    svg = worker_svg([(0.0, 0), (7200.0, 999)])
    words = re.findall(r">([^<>]+)</text>", svg)
    assert words[:6] == ["0", "200", "400", "600", "800", "1000"]
    assert words[6:] == ["0 h", "0.5 h", "1 h", "1.5 h", "2 h"]


@pytest.mark.parametrize(
    ("span_s", "labels"),
    [
        (0.9, ["0 s", "0.2 s", "0.4 s", "0.6 s", "0.8 s", "1 s"]),
        (10.24, ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]),
        (7 * 60, ["0 min", "2 min", "4 min", "6 min"]),
        (119 * 60, ["0 min", "20 min", "40 min", "60 min", "80 min", "100 min"]),
        (9 * 3600, ["0 h", "2 h", "4 h", "6 h", "8 h"]),
    ],
)
def test_times_are_round(span_s: float, labels: list[str]) -> None:
    assert time_labels(span_s) == labels


@pytest.mark.parametrize("span_s", [6.0, 60.0, 6000.0, 21600.0])
def test_the_last_label_is_within_the_picture(span_s: float) -> None:
    svg = worker_svg([(0.0, 0), (span_s, 1)])
    *_, (x, words) = re.findall(r'<text x="([0-9.]+)"[^>]*>([^<>]+)</text>', svg)
    width = int(re.findall(r'<svg [^>]*width="([0-9]+)"', svg)[0])
    assert float(x) + len(words) * WIDEST / 2 <= width


def test_steps_are_one_two_or_five_and_not_more_than_asked_for() -> None:
    assert [round_step(span, 5) for span in (0, 1, 5, 5.1, 11, 26, 999)] == pytest.approx(
        [1, 0.2, 1, 2, 5, 10, 200]
    )
    assert round_step(0.3, 3) == pytest.approx(0.1)


def test_a_single_sample_can_be_drawn() -> None:
    ElementTree.fromstring(worker_svg([(5.0, 0)]))


def test_without_samples_the_number_is_unknown() -> None:
    assert worker_plot([]).md_str == "Number of workers over time: unknown"
