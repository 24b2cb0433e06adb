from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree

import dagster as dg

from dagster_glue.metrics import samples_of_jobs, worker_plot
from dagster_glue.metrics.workers import worker_svg
from slurm_provider.slurm import JobRecord, JobState


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
    assert line == ["M36.0,112.0H252.0V10.0H468.0V61.0H468.0"]


def test_many_workers_get_a_readable_scale() -> None:
    svg = worker_svg([(0.0, 0), (7200.0, 999)])
    words = re.findall(r">([^<>]+)</text>", svg)
    assert words[:5] == ["0", "250", "500", "750", "1000"]
    assert words[5:] == ["0 h", "0.5 h", "1 h", "1.5 h", "2 h"]


def test_a_single_sample_can_be_drawn() -> None:
    ElementTree.fromstring(worker_svg([(5.0, 0)]))


def test_without_samples_the_number_is_unknown() -> None:
    assert worker_plot([]).md_str == "Number of workers over time: unknown"
