from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_provider.slurm import Job, JobState, SlurmOutputError
from slurm_provider.slurm.queue import parse_queue, queue_argv
from tests.slurm_provider.slurm.conftest import QUEUE_HEADER, queue_row, queue_text, records

# As printed by Slurm 22.05.8, separators made visible.
LISTING_22_05 = (
    (
        "JOBID|JOBID|STATE|REASON|PARTITION|NODELIST|SUBMIT_TIME|START_TIME|END_TIME|TIME_LIMIT|CPUS|NAME;\n"
        "2_1|2|PENDING|Resources|debug||1795392331|N/A|N/A|UNLIMITED|4|j.sh;\n"
        "3_0|3|PENDING|Priority|debug||1795392331|1795395000|1795395300|5:00|4|j.sh;\n"
        "4|4|PENDING|PartitionConfig|debug||1795392331|N/A|N/A|UNLIMITED|99|j.sh;\n"
        "6|6|PENDING|BeginTime|debug||1795392331|1893456000|NONE|1-02:00:00|1|j.sh;\n"
        "24+1|25|PENDING|None|debug||1795392331|N/A|N/A|UNLIMITED|1|het.sh;\n"
        "1|1|RUNNING|None|debug|n1|1795392331|1795392331|NONE|UNLIMITED|1|multi\nline;\n"
        "2_0|7|RUNNING|None|debug|n2|1795392331|1795392331|NONE|UNLIMITED|4|j.sh;\n"
        "5|5|CANCELLED|JobHeldUser|debug,short||1795392331|1795392395|1795392395|UNLIMITED|1|j.sh;\n"
    )
    .replace("|", "\x1f")
    .replace(";\n", "\x1e\n")
)


def test_a_listing_of_22_05_is_read_whole() -> None:
    jobs = {job.job_id: job for job in parse_queue(LISTING_22_05)}
    assert list(jobs) == ["2_1", "3_0", "4", "6", "24+1", "1", "2_0", "5"]
    assert jobs["3_0"] == Job(
        job_id="3_0",
        raw_id="3",
        state=JobState.PENDING,
        reason="Priority",
        partition="debug",
        nodelist="",
        submit_time=1795392331.0,
        start_time=1795395000.0,
        end_time=1795395300.0,
        time_limit_s=300,
        cpus=4,
        name="j.sh",
    )
    assert jobs["6"].time_limit_s == 26 * 3600
    assert jobs["6"].end_time is None
    assert jobs["2_0"].raw_id == "7"
    assert jobs["2_0"].hosts == ("n2",)
    assert jobs["2_0"].array_id == "2"
    assert jobs["24+1"].array_id is None
    assert jobs["5"].state.is_terminal


def test_the_text_of_newer_slurm_is_read_too() -> None:
    row = queue_row(state="FAILED")
    row[3] = "RaisedSignal:10(User_defined_signal_1)"  # 23.02 on; before: JobLaunchFailure
    suspended = queue_row("43", state="SUSPENDED")  # 26.05: owners may suspend
    expedited = queue_row("44", state="EXPEDITING")
    jobs = parse_queue(queue_text(row, suspended, expedited))
    assert jobs[0].reason == "RaisedSignal:10(User_defined_signal_1)"
    assert jobs[1].state.is_live
    assert jobs[2].state is JobState.UNKNOWN


def test_an_empty_queue_is_a_header_alone() -> None:
    assert parse_queue(queue_text()) == []


def test_a_named_cluster_adds_a_line_above_the_header() -> None:
    assert len(parse_queue("CLUSTER: lab\n" + queue_text(queue_row()))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "squeue: something odd\n",
        records(queue_row()),  # no header
        records(QUEUE_HEADER[:-1], queue_row()),
        queue_text(queue_row()) + "43\x1f",
        queue_text(queue_row())[:-4],
        queue_text(queue_row()[:-1]),
        queue_text(queue_row()) + "slurm_load_jobs error\n",
    ],
)
def test_anything_but_a_whole_listing_is_an_error_never_a_shorter_list(text: str) -> None:
    with pytest.raises(SlurmOutputError, match="squeue"):
        parse_queue(text)


@pytest.mark.parametrize(
    ("field", "value"), [(6, "2026-11-23T00:05:31"), (9, "soon"), (10, "many")]
)
def test_an_unreadable_field_fails_the_listing(field: int, value: str) -> None:
    row = queue_row()
    row[field] = value
    with pytest.raises(SlurmOutputError, match=value):
        parse_queue(queue_text(queue_row(), row))


def test_a_host_range_is_kept_as_text() -> None:
    row = queue_row()
    row[5] = "n[1-3]"
    (job,) = parse_queue(queue_text(row))
    assert (job.nodelist, job.hosts) == ("n[1-3]", ())


# Names may hold anything but the end of a record, field separators and line breaks included.
_names = st.text(st.characters(exclude_characters="\x00\x1e", exclude_categories=["Cs"]))


@given(st.lists(_names, max_size=5))
def test_no_job_name_of_other_software_breaks_the_listing(names: list[str]) -> None:
    rows = [queue_row(str(number), name=name) for number, name in enumerate(names)]
    assert [job.name for job in parse_queue(queue_text(*rows))] == names


@given(st.integers(0, 12), st.data())
def test_a_cut_listing_is_never_taken_for_a_whole_one(count: int, data: st.DataObject) -> None:
    text = queue_text(*(queue_row(str(number)) for number in range(count)))
    cut = data.draw(st.integers(0, len(text) - 1))
    try:
        jobs = parse_queue(text[:cut])
    except SlurmOutputError:
        return
    # Cut exactly between two records: only the exit code can tell, and the client looks at it.
    assert text[:cut] == queue_text(*(queue_row(job.job_id) for job in jobs))


def test_one_command_asks_for_everything_in_epoch_seconds() -> None:
    argv = queue_argv()
    assert argv[:3] == ["env", "SLURM_TIME_FORMAT=%s", "squeue"]
    assert {"--me", "--states=all", "--array"} <= set(argv)
    assert "--noheader" not in argv
    assert queue_argv("lab")[-1] == "--clusters=lab"
