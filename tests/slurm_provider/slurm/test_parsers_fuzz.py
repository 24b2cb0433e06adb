"""Whatever Slurm, a wrapper or a broken connection prints: the parsers answer, or raise their own
error."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_provider.fleet.identity import parse_job_name
from slurm_provider.slurm import SlurmError, SlurmOutputError, explain, parse_gres, parse_state
from slurm_provider.slurm.accounting import parse_history, records_by_id
from slurm_provider.slurm.job_ids import expand_tasks, fold_job_ids, is_job_id
from slurm_provider.slurm.messages import command_error, is_gone, looks_like_error
from slurm_provider.slurm.quantities import parse_memory_mb, parse_time_s
from slurm_provider.slurm.queue import parse_queue
from slurm_provider.slurm.site import (
    parse_accounts,
    parse_config,
    parse_lifting_qos,
    parse_partitions,
)
from slurm_provider.slurm.submit import parse_expected_start, parse_submitted
from tests.slurm_provider.slurm.conftest import queue_row, queue_text, records
from tests.slurm_provider.slurm.test_accounting import LISTING
from tests.slurm_provider.slurm.test_site import CONFIG, SINFO_HEADER, SINFO_ROWS

STABLE = settings(max_examples=150, deadline=None, derandomize=True)

QUEUE = queue_text(
    queue_row("42"),
    queue_row("111_1", state="PENDING", name="ray:demo:gpu:0123456789ab:worker:abcdefghij"),
    queue_row("106+1", name="a|b 'c' \"d\" $(e)"),
    [
        "7", "7", "PENDING", "ReqNodeNotAvail, UnavailableNodes:n[1-2]", "a,b", "", "1795392331",
        "N/A", "N/A", "1-00:00:00", "64", "ünï\ttwo\nlines",
    ],
)  # fmt: skip
SINFO = records(SINFO_HEADER, *SINFO_ROWS)
ACCOUNTS = "lab|acc|acc|debug|normal,high|normal\nlab||other|||\n"
REFUSAL = "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
TEST_ONLY = "sbatch: Job 7 to start at 1795392331 using 2 processors on nodes n1 in debug\n"

# What a mutation puts in: numbers that overflow, digits that are none, signs of lists and ranges.
ODD = (
    "", "9" * 400, "9" * 5000, "²", "٣", "-1", "nan", "inf", "1e9", "0x1", "\x1f", "\x1e", "\x1e\n",
    "\n", "|", ",", "=", ":", "+", "_", "[", "]", "2_[0-99999999999]", "2_[-3]", "2_[3-]",
    "2_[1-5:0]", "(null)", "N/A", "UNLIMITED", "\0", "\x1b[2J", "\ufffd", "\ud800",
    "ray:a:b:c:worker:", "%",
)  # fmt: skip
PIECES = st.one_of(st.sampled_from(ODD), st.text(max_size=8))


def words_of(real: str) -> list[str]:
    return re.split(r"([\x1f\x1e\n|,=: ])", real)


@st.composite
def mutated(draw: st.DrawFn, real: str) -> str:
    """Real output, with a few of its words replaced, and perhaps cut."""
    words = words_of(real)
    for _ in range(draw(st.integers(1, 4))):
        words[draw(st.integers(0, len(words) - 1))] = draw(PIECES)
    text = "".join(words)
    start = draw(st.integers(0, len(text)))
    return text[:start] + text[start + draw(st.sampled_from([0, 0, 0, 1, 7, 10_000])) :]


def anything_like(real: str) -> st.SearchStrategy[str]:
    noise = st.binary().map(lambda data: data.decode(errors="replace"))  # as a transport decodes
    return st.one_of(mutated(real), st.text(), noise)


def looked_at(listing: Any) -> Any:
    """As the fleet does: what parses must also be of use."""
    for job in listing:
        _ = (job.hosts, job.array_id, job.hetjob_id, job.state.is_live)
        _ = explain(job.reason).sentence
        parse_job_name(job.name)
        is_job_id(job.job_id)
    fold_job_ids(job.job_id for job in listing)


def remembered(text: str) -> None:
    found = parse_history(text)
    ids = ["1", "2_1", "2_[1-2]", *(record.job_id for record in found)]
    for record in records_by_id(found, ids).values():
        _ = record.max_rss_bytes


def configured(text: str) -> None:
    _ = parse_config(text).max_array_tasks


PARSERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "squeue": (QUEUE, lambda text: looked_at(parse_queue(text))),
    "sacct": (LISTING, remembered),
    "sinfo": (SINFO, parse_partitions),
    "scontrol": (CONFIG.replace("sched_min_interval", "max_array_tasks"), configured),
    "sacctmgr": (ACCOUNTS, parse_accounts),
}


@pytest.mark.parametrize("command", PARSERS)
def test_a_listing_with_any_odd_word_is_read_or_is_unreadable(command: str) -> None:
    real, parse = PARSERS[command]
    words = words_of(real)
    for position in range(len(words)):
        for odd in ODD:
            try:
                parse("".join([*words[:position], odd, *words[position + 1 :]]))
            except SlurmOutputError:
                pass


@pytest.mark.parametrize("command", PARSERS)
@STABLE
@given(st.data())
def test_a_listing_is_read_or_is_unreadable(command: str, data: st.DataObject) -> None:
    real, parse = PARSERS[command]
    parse(real)
    try:
        parse(data.draw(anything_like(real)))
    except SlurmOutputError:
        pass


@STABLE
@given(
    anything_like("123;lab\n"),
    anything_like(REFUSAL),
    anything_like(TEST_ONLY),
    anything_like("(ReqNodeNotAvail, UnavailableNodes:n[1-2])"),
    anything_like("CANCELLED by 1000"),
    anything_like("normal|DenyOnLimit,PartitionTimeLimit\n"),
)
def test_other_texts_always_have_an_answer(
    submitted: str, refusal: str, verdict: str, reason: str, state: str, qos: str
) -> None:
    answer = parse_submitted(submitted)
    assert answer is None or all(map(is_job_id, answer.job_ids))
    error = command_error("sbatch", "here", 1, refusal)
    assert isinstance(error, SlurmError)
    assert len(str(error)) < 1500
    start = parse_expected_start(verdict)
    assert start is None or start < 1e12
    assert explain(reason).text or not reason.strip(" ()")
    parse_state(state)
    is_gone(refusal)
    looks_like_error(refusal)
    parse_lifting_qos(qos)


@pytest.mark.parametrize("parse", [parse_gres, parse_memory_mb, parse_time_s])
@STABLE
@given(anything_like("gpu:a100:2(S:0-1),shard:16,1-00:00:00,4000M"))
def test_a_quantity_is_read_or_a_value_error(parse: Callable[[str], Any], text: str) -> None:
    try:
        parse(text)
    except ValueError:
        pass


@pytest.mark.parametrize(
    "display_id", ["2_[-3]", "2_[3-]", "2_[1-5:0]", "2_[,]", "2_[0-99999999999]", "2_[0-9999999]"]
)
def test_a_range_that_is_none_or_too_long_is_one_id(display_id: str) -> None:
    assert expand_tasks(display_id) == {display_id}
    assert expand_tasks("2_[0-6:3,9%2]") == {"2_0", "2_3", "2_6", "2_9"}
