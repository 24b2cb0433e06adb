"""The site check: what it concludes, and that it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slurm_provider import config_cache
from slurm_provider.cli import findings
from slurm_provider.cli.findings import OK, PROBLEM, SKIPPED, WARNING
from slurm_provider.cli.probe_job import ProbeEnded, ProbeJob, ProbeTimeout
from slurm_provider.slurm import SlurmClient, SlurmRefused, SlurmUnavailable
from slurm_provider.transport import LocalTransport

ANSWER: dict[str, Any] = {
    "host": "n1",
    "job_id": "7",
    "address": "10.0.0.1",
    "port": 20001,
    "nonce": "abc",
    "python_version": "3.11.2",
    "ray_path": "/env/bin/ray",
    "ray_version": "2.60.0",
    "submit_problem": None,
}


def test_an_environment_with_the_same_ray_is_ok() -> None:
    found = findings.environment(ANSWER, "2.60.0")
    assert (found.outcome, found.detail) == (
        OK,
        "Ray 2.60.0, Python 3.11.2 on n1 (/env/bin/ray)",
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ray_version": "2.59.0"}, "but Ray 2.60.0 here"),
        ({"ray_version": "2.9.3"}, "too old"),
        ({"ray_problem": "No module named ray"}, "No module named ray"),
        ({"ray_path": None, "path": "/bin"}, "there is no ray on PATH of n1 (PATH is /bin)"),
    ],
)
def test_a_broken_environment_is_a_problem_with_a_next_step(
    change: dict[str, Any], words: str
) -> None:
    found = findings.environment({**ANSWER, **change}, "2.60.0")
    assert found.outcome == PROBLEM
    assert words in found.detail
    assert found.todo


def test_an_unprotected_configuration_cache_is_a_warning_with_a_next_step() -> None:
    assert findings.configuration_cache(True).outcome == OK
    found = findings.configuration_cache(False)
    assert found.outcome == WARNING and "ray_slurm_guard.pth" in found.todo


def test_what_the_activation_printed_is_shown_with_the_environment_and_nothing_else() -> None:
    found = findings.environment(ANSWER, "2.60.0")
    shown = findings.with_output(found, "bash: /nope/activate: No such file or directory\n")
    assert shown.outcome == OK
    assert shown.detail.splitlines()[1:] == [
        "its activation printed:", "| bash: /nope/activate: No such file or directory"
    ]  # fmt: skip
    assert findings.with_output(found, "\n") == found
    other = findings.commands("n1", 0, "")
    assert findings.with_output(other, "words") == other


def test_a_temporary_folder_that_cannot_be_made_is_a_problem() -> None:
    assert findings.temporary_folder({**ANSWER, "temp_problem": None}).outcome == OK
    found = findings.temporary_folder({**ANSWER, "temp_problem": "/nonexist/rs-1/x: No such file"})
    assert (found.outcome, found.todo) == (PROBLEM, "change provider.temp_dir")
    assert "on n1: /nonexist/rs-1/x: No such file" in found.detail


def test_certificates_are_spoken_of_only_where_they_are_wanted() -> None:
    assert findings.tls(ANSWER) == []
    (fine,) = findings.tls({**ANSWER, "tls_problem": None})
    assert fine.outcome == OK
    (found,) = findings.tls({**ANSWER, "tls_problem": "no package cryptography"})
    assert (found.outcome, found.detail) == (PROBLEM, "no package cryptography")
    assert "provider.tls" in found.todo


def test_hosts_that_may_not_submit_are_a_problem_only_if_the_head_needs_it() -> None:
    refused = {**ANSWER, "submit_problem": "Access denied"}
    assert findings.submitting(ANSWER, needed=True).outcome == OK
    assert findings.submitting(refused, needed=False).outcome == OK
    found = findings.submitting(refused, needed=True)
    assert found.outcome == PROBLEM
    assert "provider.head_ssh" in found.todo


def test_another_folder_of_the_same_name_is_not_shared() -> None:
    assert findings.shared_folder("/d", ANSWER, "abc").outcome == OK
    assert findings.shared_folder("/d", ANSWER, "xyz").outcome == PROBLEM


def test_a_job_that_left_no_trace_means_the_folder_is_not_shared() -> None:
    found = findings.lost_job("/d", "ended (failed)", "n1", None)
    assert (found.what, found.outcome) == (findings.SHARED_FOLDER, PROBLEM)
    found = findings.lost_job("/d", "ended (failed)", "n1", "a\nno such module\n")
    assert (found.what, found.outcome) == (findings.ENVIRONMENT, PROBLEM)
    assert "no such module" in found.detail


@pytest.mark.parametrize(
    ("second", "edge_reaches", "outcome"),
    [
        ({"host": "n2", "connected": True}, False, OK),
        ({"host": "n2", "connected": False, "problem": "timed out"}, True, PROBLEM),
        (None, True, OK),
        (None, False, SKIPPED),
    ],
)
def test_only_a_host_that_is_not_reached_from_another_host_is_a_problem_of_ports(
    second: dict[str, Any] | None, edge_reaches: bool, outcome: str
) -> None:
    found = findings.ports_between(ANSWER, second, edge_reaches, "20000-32767")
    assert found.outcome == outcome
    assert "10.0.0.1:20001" in found.detail


def test_srun_into_the_job_must_work() -> None:
    assert findings.commands("n1", 0, "").outcome == OK
    assert "Access denied" in findings.commands("n1", 1, "Access denied").detail


# -- the job ---------------------------------------------------------------------------------


def _probe() -> ProbeJob:
    client = SlurmClient(LocalTransport())
    return ProbeJob(client, "/x.sh", [], {"begin": "now+1hour", "partition": "p"}, "/x.log")


def _after(calls: int, answer: dict[str, Any] | None = None) -> Callable[[], Any]:
    left = [calls]

    def look() -> dict[str, Any] | None:
        left[0] -= 1
        return answer if left[0] < 0 else None

    return look


def _cancelled(slurm: Any) -> list[str]:
    return [call for call in slurm.calls if call.startswith("scancel")]


def test_the_job_runs_now_and_short_with_the_users_options(slurm: Any) -> None:
    options = _probe().submission
    assert dict(options.options) == {"partition": "p"}
    assert options.provider_options["time"] == "5"


def test_an_answer_ends_the_wait_and_the_job(slurm: Any) -> None:
    slurm.answer("sbatch", "12\n")
    job = _probe()
    slurm.queue({"JOBID": "12", "NAME": job.name, "STATE": "PENDING", "REASON": "Priority"})
    shown: list[str] = []
    with job:
        assert job.wait(_after(1, {"a": 1}), 10, shown.append) == {"a": 1}
        slurm.queue()
    assert "job 12 waits: jobs with higher priority" in shown[0]
    assert _cancelled(slurm) == ["scancel 12"]


def test_a_job_that_waits_too_long_is_cancelled_and_its_reason_told(slurm: Any) -> None:
    slurm.answer("sbatch", "12\n")
    job = _probe()
    slurm.queue({"JOBID": "12", "NAME": job.name, "STATE": "PENDING", "REASON": "Priority"})
    with pytest.raises(ProbeTimeout, match="jobs with higher priority"), job:
        try:
            job.wait(_after(10**6), 0.3, lambda _: None)
        finally:
            slurm.queue()
    assert _cancelled(slurm) == ["scancel 12"]


def test_a_job_that_ends_without_an_answer_is_told_with_its_host(slurm: Any) -> None:
    slurm.answer("sbatch", "12\n")
    job = _probe()
    slurm.queue({"JOBID": "12", "NAME": job.name, "STATE": "FAILED", "NODELIST": "n9"})
    with pytest.raises(ProbeEnded) as caught, job:
        job.wait(_after(10**6), 10, lambda _: None)
    assert (caught.value.words, caught.value.host) == ("ended (failed)", "n9")


def test_ctrl_c_cancels_the_job(slurm: Any) -> None:
    slurm.answer("sbatch", "12\n")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), _probe() as job:
        job.wait(interrupt, 10, lambda _: None)
    assert _cancelled(slurm) == ["scancel 12"]


def test_an_sbatch_without_a_clear_answer_is_looked_up_by_name_and_cancelled(slurm: Any) -> None:
    slurm.answer("sbatch", stderr="sbatch: error: Socket timed out on send/recv operation", rc=1)
    job = _probe()
    slurm.queue({"JOBID": "77", "NAME": job.name, "STATE": "CANCELLED"})
    with pytest.raises(SlurmUnavailable), job:
        raise AssertionError("not entered")
    assert _cancelled(slurm) == ["scancel 77"]


def test_a_refused_job_leaves_nothing_to_cancel(slurm: Any) -> None:
    slurm.answer("sbatch", stderr="sbatch: error: invalid partition specified: p", rc=1)
    with pytest.raises(SlurmRefused), _probe():
        raise AssertionError("not entered")
    assert _cancelled(slurm) == []


# -- the command -----------------------------------------------------------------------------


def test_without_a_job_a_good_site_has_exit_code_0(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_cache, "is_avoided", lambda: True)
    shown = cli.run("check", cli.write(), "--no-job")
    assert shown.exit_code == 0, shown.output
    assert [line.split(":")[0] for line in shown.output.splitlines()] == [
        "ok       configuration",
        "ok       configuration cache",
        "ok       Slurm",
        "ok       node type head",
        "ok       node type cpu",
        "skipped  job on a host",
    ]
    assert list((cli.home / ".ray-slurm").iterdir()) == []


def test_a_key_that_ray_will_refuse_is_a_problem_of_the_configuration(cli: Any) -> None:
    cli.config["idle_timeout_minute"] = 5
    shown = cli.run("check", cli.write(), "--no-job")
    assert shown.exit_code == 1
    assert shown.output.startswith("problem  configuration: c.yaml: Additional properties")


def test_a_refused_node_type_carries_slurms_words_and_the_partitions_there_are(
    cli: Any, slurm: Any
) -> None:
    slurm.answer("sbatch", stderr="allocation failure: Invalid partition name specified", rc=1)
    shown = cli.run("check", cli.write())
    assert shown.exit_code == 1
    assert (
        "problem  node types 'head' and 'cpu': Slurm refused it: allocation failure: Invalid "
        "partition name specified. Partitions here: compute\n           -> change node_config "
        "(or provider.defaults)"
    ) in shown.output
    assert "1 problem." in shown.output
    assert not [call for call in slurm.calls if "--parsable" in call]


def test_a_size_no_host_has_is_told_with_what_hosts_have_by_one_more_command(
    cli: Any, slurm: Any
) -> None:
    words = "allocation failure: Requested node configuration is not available"
    slurm.answer("sbatch", stderr=words, rc=1)
    cli.config["provider"]["defaults"]["mem"] = "500G"
    del cli.config["available_node_types"]["cpu"]["node_config"]["mem"]
    shown = cli.run("check", cli.write(), "--no-job")
    assert (
        f"problem  node types 'head' and 'cpu': Slurm refused it: {words}. Asked for: mem: 500G; "
        "partition compute has hosts with 16 CPUs, 64000 MB, no gres\n"
    ) in shown.output
    assert len([call for call in slurm.calls if call.startswith("sinfo")]) == 1


@pytest.mark.parametrize(
    ("flags", "defaults", "outcome"),
    [
        ("", {"partition": "compute"}, "problem  node types 'head' and 'cpu': it would wait for"),
        ("PartitionTimeLimit", {"partition": "compute"}, "unless QOS vip lifts that limit, it"),
        ("", {}, "unless the site chooses another partition, it would wait for ever"),
    ],
)
def test_a_longer_time_than_the_partition_allows_is_a_problem_unless_it_may_be_lifted(
    cli: Any, slurm: Any, flags: str, defaults: dict[str, str], outcome: str
) -> None:
    slurm.answer("sacctmgr", f"normal|\nvip|DenyOnLimit,{flags}\n")
    cli.config["provider"]["defaults"] = {**defaults, "time": "3-00:00:00"}
    shown = cli.run("check", cli.write(), "--no-job")
    assert outcome in shown.output
    assert "time: 3-00:00:00 is longer than partition compute allows (1-00:00:00)" in shown.output
    assert shown.exit_code == (1 if outcome.startswith("problem") else 0)


def test_a_head_with_too_little_memory_is_a_warning(cli: Any) -> None:
    cli.config["available_node_types"]["head"]["node_config"]["mem"] = "100M"
    shown = cli.run("check", cli.write(), "--no-job")
    assert "warning  node type head: mem: 100M is too little for a head" in shown.output
    assert shown.exit_code == 0


def test_a_quota_that_is_used_up_is_told_as_passing(cli: Any, slurm: Any) -> None:
    slurm.answer("sbatch", stderr="allocation failure: Requested nodes are busy", rc=1)
    assert "Slurm takes no such job now" in cli.run("check", cli.write(), "--no-job").output


def test_a_folder_that_cannot_be_written_is_told_with_its_key(cli: Any) -> None:
    (cli.home / "file").write_text("")
    cli.config["provider"]["cluster_dir"] = f"{cli.home}/file/demo"
    shown = cli.run("check", cli.write())
    assert shown.exit_code == 1
    words = f"provider.cluster_dir {cli.home}/file/demo: nothing can be written beside it: "
    assert f"problem  shared folder: {words}File exists" in shown.output
    assert "-> set it to a folder that you may write to" in shown.output


def test_a_missing_slurm_is_one_problem_with_the_next_step(cli: Any, slurm: Any) -> None:
    (slurm.folder / "scontrol").unlink()
    slurm.answer("scontrol", rc=127)
    shown = cli.run("check", cli.write())
    assert shown.exit_code == 1
    assert "scontrol is not on PATH" in shown.output
    assert "-> check provider.ssh" in shown.output


def test_the_folder_of_a_failed_probe_is_removed(cli: Any, slurm: Any) -> None:
    # `--test-only` is answered, and the submission prints no job id.
    shown = cli.run("check", cli.write())
    assert shown.exit_code == 1
    assert "problem  job on a host: sbatch (here) claims success but names no job" in shown.output
    assert list((cli.home / ".ray-slurm").iterdir()) == []
