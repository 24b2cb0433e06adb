from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_provider.slurm import JobState, SlurmOutputError
from slurm_provider.slurm.accounting import (
    GpuUse,
    history_argv,
    parse_cpu_time_s,
    parse_gpu_use,
    parse_history,
    parse_size_bytes,
    records_by_id,
)

HEADER = (
    "JobID|JobIDRaw|JobName|State|ExitCode|Reason|ElapsedRaw|AllocCPUS|TotalCPU|MaxRSS|NodeList|"
    "Partition|Account|Submit|Start|End|AllocTRES|TRESUsageInAve|TRESUsageInMax\n"
)
# As printed by Slurm 22.05.8, separators made visible.
RECORDS = (
    "1|1|multi\nline|CANCELLED by 0|0:0|None|64|1|00:05.001||n1|debug|acc|1795392331|1795392331|"
    "1795392395|billing=1,cpu=1,gres/gpu=1,mem=100M,node=1||\n"
    "1.batch|1.batch|batch|CANCELLED|0:15||64|1|00:00.001|3212K|n1||acc|1795392331|1795392331|"
    "1795392395|cpu=1,gres/gpu=1,mem=100M,node=1|"
    "cpu=00:00:00,energy=0,fs/disk=19931,mem=3212K,pages=0,vmem=6576K|"
    "cpu=00:00:00,energy=0,fs/disk=19931,mem=3212K,pages=0,vmem=6576K\n"
    "1.0|1.0|ray|FAILED|2:0||60|1|00:05|1.50G|n1||acc|1795392331|1795392331|1795392395|cpu=1||\n"
    "4|4|j.sh|PENDING|0:0|None|0|99|00:00:00||None assigned|debug|acc|1795392331|Unknown|Unknown|"
    "||\n"
    "2_0|7|j.sh|OUT_OF_MEMORY|0:125|None|64|4|1-00:00:01||n2|debug|acc|1795392331|1795392331|"
    "1795392395|billing=4,cpu=4,mem=100M,node=1||\n"
    "2_[1-2]|2|j.sh|CANCELLED by 0|0:0|None|0|4|00:00:00||None assigned|debug|acc|1795392331|None|"
    "1795392395|||\n"
    "24+1|25|het.sh|PENDING|0:0|None|0|0|00:00:00||None assigned|debug|acc|1795392331|Unknown|"
    "Unknown|||\n"
)
LISTING = (HEADER + RECORDS).replace("|", "\x1f")


def test_jobs_and_their_steps_are_read() -> None:
    records = {record.job_id: record for record in parse_history(LISTING)}
    assert list(records) == ["1", "4", "2_0", "2_[1-2]", "24+1"]
    job = records["1"]
    assert job.name == "multi\nline"
    assert job.state is JobState.CANCELLED
    assert (job.elapsed_s, job.cpus, job.total_cpu_s) == (64, 1, 5.001)
    assert job.allocated["gres/gpu"] == "1"
    assert [step.step for step in job.steps] == ["batch", "0"]
    assert (job.steps[0].exit_code, job.steps[0].exit_signal) == (0, 15)
    assert job.steps[1].exit_code == 2
    assert job.max_rss_bytes == round(1.5 * 1024**3)
    pending = records["4"]
    assert (pending.start_time, pending.end_time, pending.nodelist) == (None, None, "")
    assert pending.max_rss_bytes is None
    assert records["2_0"].total_cpu_s == 86401.0


def test_records_are_found_by_display_id_raw_id_and_range() -> None:
    found = records_by_id(parse_history(LISTING), ["2_0", "7", "2_1", "2_2", "25", "24+1", "99"])
    assert {key: record.raw_id for key, record in found.items()} == {
        "2_0": "7",
        "7": "7",
        "2_1": "2",
        "2_2": "2",
        "25": "25",
        "24+1": "25",
    }


def test_no_records_is_an_answer() -> None:
    assert parse_history(HEADER.replace("|", "\x1f")) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sacct: odd\n",
        LISTING[:-40],
        LISTING + "\x1f\n",
        LISTING.replace("1795392331", "2026-11-23T00:05:31"),
    ],
)
def test_an_unreadable_listing_is_an_error(text: str) -> None:
    with pytest.raises(SlurmOutputError, match="sacct"):
        parse_history(text)


def test_one_command_asks_for_many_jobs_in_fields_that_every_version_has() -> None:
    argv = history_argv(["1", "2"])
    assert argv[:3] == ["env", "SLURM_TIME_FORMAT=%s", "sacct"]
    assert "--jobs=1,2" in argv
    (fields,) = (word for word in argv if word.startswith("--format="))
    assert not {"Reserved", "Planned", "SubmitLine", "Comment"} & set(fields[9:].split(","))


@pytest.mark.parametrize(
    ("average", "peak", "use"),
    [
        ("", "", None),
        ("cpu=00:00:00,mem=3212K", "cpu=00:00:00,mem=3212K", None),
        (
            "cpu=00:56:24,gres/gpumem=1030M,gres/gpuutil=25,mem=5420K",
            "cpu=00:56:24,gres/gpumem=2G,gres/gpuutil=100,mem=5420K",
            GpuUse(25.0, 100.0, 2 << 30),
        ),
        (  # as newer versions print memory, and four busy GPUs
            "gres/gpumem=40777023488,gres/gpuutil=396",
            "gres/gpumem=40777023488,gres/gpuutil=400",
            GpuUse(396.0, 400.0, 40777023488),
        ),
        (  # a GPU that cannot be sampled
            "gres/gpumem=18446744073709551614,gres/gpuutil=18446744073709551614",
            "gres/gpumem=16E,gres/gpuutil=18446744073709551614",
            GpuUse(None, None, None),
        ),
    ],
)
def test_gpu_use_is_read_where_it_is_accounted(average: str, peak: str, use: GpuUse | None) -> None:
    assert parse_gpu_use(average, peak) == use


@pytest.mark.parametrize(
    ("text", "size"),
    [("", None), ("0", 0), ("3212K", 3289088), ("1.50G", 1610612736), ("7M", 7340032)],
)
def test_sizes_become_bytes(text: str, size: int | None) -> None:
    assert parse_size_bytes(text) == size


@given(st.integers(0, 100), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_printed_cpu_time_reads_back(days: int, hours: int, minutes: int, seconds: int) -> None:
    printed = f"{days}-{hours:02}:{minutes:02}:{seconds:02}"
    assert parse_cpu_time_s(printed) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert parse_cpu_time_s(f"{minutes:02}:{seconds:02}.250") == minutes * 60 + seconds + 0.25
