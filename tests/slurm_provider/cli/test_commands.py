"""``status``, ``logs``, ``script``, ``sweep`` and ``resume`` on a Slurm that answers as told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slurm_provider.cli.output import moment
from slurm_provider.cluster import Cluster
from slurm_provider.job_submit import job_submit_line

HEAD = {"JOBID": "7", "JOBID_": "7", "NAME": "ray:demo:head:u1:head:hh-0"}
WORKER = {
    "JOBID": "8_0", "JOBID_": "9", "NAME": "ray:demo:cpu:u1:worker:ww",
    "STATE": "PENDING", "REASON": "Priority", "NODELIST": "",
}  # fmt: skip


@pytest.fixture
def made(cli: Any, slurm: Any) -> Any:
    """The cluster of the YAML, with a head that has joined and a worker in the queue."""
    slurm.queue(HEAD, WORKER)
    files = {
        "cluster.json": {"uuid": "u1", "name": "demo"},
        "head.json": {
            "node_id": "hh-0", "host": "n1", "gcs_address": "10.0.0.1:20001",
            "dashboard_host": "127.0.0.1", "dashboard_port": 20002, "client_port": "20003",
        },
        "nodes/hh-0/node.json": {
            "node_id": "hh-0", "state": "joined", "host": "n1", "job_id": "7",
        },
    }  # fmt: skip
    for name, value in files.items():
        path = cli.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    for name in ("hh-0", "ww-0"):
        log = cli.directory / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text(f"first of {name}\nlast of {name}\n")
    (cli.directory / "token").write_text("secret")
    return cli


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ({}, "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=/d/token ray job submit --address "),
        ({"auth": "disabled"}, "ray job submit --address http://127.0.0.1:8265 -- COMMAND"),
        (
            {"ssh": {"host": "login1", "user": "me", "port": 2222}},
            "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=\"$(ssh -p 2222 me@login1 'cat /d/token')\" ray ",
        ),
        (
            {"ssh": {"host": "site", "config_path": "/c/ssh", "known_hosts": "/c/known"}},
            'RAY_AUTH_MODE=token RAY_AUTH_TOKEN="$(ssh -F /c/ssh -o '
            "UserKnownHostsFile=/c/known site 'cat /d/token')\" ray ",
        ),
    ],
)
def test_the_line_for_ray_job_submit_brings_the_token(provider: dict[str, Any], words: str) -> None:
    section = {"cluster_dir": "/d", **provider}
    assert job_submit_line(Cluster(section, "demo")).startswith(words)


def test_status_tells_how_jobs_are_submitted(made: Any) -> None:
    shown = made.run("status", made.write())
    assert f"runs: RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={made.directory}/token ray" in (
        shown.output
    )


def test_status_shows_one_whole_line_per_node_when_piped(made: Any) -> None:
    shown = made.run("status", made.write())
    assert shown.exit_code == 0, shown.output
    lines = {line.split()[0]: line for line in shown.output.splitlines() if line}
    assert "joined" in lines["hh-0"]
    assert lines["ww-0"].split("  ")[-1].strip() == f"{made.directory}/logs/ww-0.log"
    assert "jobs with higher priority are ahead in the queue" in lines["ww-0"]
    assert "10.0.0.1:20001 on n1" in lines["head"]
    assert "\x1b" not in shown.output
    assert "secret" not in shown.output


def test_status_asks_slurm_once(made: Any, slurm: Any) -> None:
    made.run("status", made.write())
    commands = ("squeue", "sinfo", "scontrol", "sacct", "sbatch", "scancel")
    asked = [call.split()[0] for call in slurm.calls if call.startswith(commands)]
    assert asked == ["squeue"]


def test_status_as_json_has_the_documented_keys(made: Any) -> None:
    shown = json.loads(made.run("status", made.write(), "--json").stdout)
    assert set(shown) == {
        "cluster", "uuid", "directory", "closing", "head", "head_ended", "token_path", "nodes",
        "setbacks",
    }  # fmt: skip
    assert shown["head"]["client_port"] == 20003
    assert [node["state"] for node in shown["nodes"]] == ["joined", "queued"]
    documented = made.run("status", "--help").output
    assert all(key in documented for key in (*shown, *shown["nodes"][0], *shown["head"]))


def test_status_says_that_the_head_is_gone_and_what_starts_one(made: Any, slurm: Any) -> None:
    slurm.queue({**HEAD, "STATE": "TIMEOUT", "REASON": "TimeLimit"})
    output = made.run("status", made.write()).output
    assert "The head is gone (job 7: timeout (TimeLimit)); `ray up c.yaml` starts one." in output
    assert "No nodes." in output


def test_status_tells_the_cause_and_the_log_of_a_paused_type(made: Any) -> None:
    state = {
        "paused": True, "failures": 5, "wait_until": 0, "cause": "exit code 7",
        "where": [f"{made.directory}/logs/ww-0.log"],
    }  # fmt: skip
    (made.directory / "autoscaler.json").write_text(
        json.dumps({"held": [], "types": {"cpu": state}})
    )
    output = made.run("status", made.write()).output
    assert "Node type cpu is paused: exit code 7" in output
    assert "`ray-slurm resume c.yaml`" in output
    assert "  | last of ww-0" in output


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ([], "first of hh-0\nlast of hh-0\n"),
        (["--tail", "1"], "last of hh-0\n"),
        (["ww-0"], "first of ww-0\nlast of ww-0\n"),
        (["ww"], "first of ww-0\nlast of ww-0\n"),
        (["8_0"], "first of ww-0\nlast of ww-0\n"),
        (["8"], "first of ww-0\nlast of ww-0\n"),
        (["n1"], "first of hh-0\nlast of hh-0\n"),
        (["head"], "first of hh-0\nlast of hh-0\n"),
        (["cpu"], "first of ww-0\nlast of ww-0\n"),
    ],
)
def test_logs_finds_a_node_by_its_id_job_host_or_type(
    made: Any, arguments: list[str], printed: str
) -> None:
    shown = made.run("logs", made.write(), *arguments)
    assert shown.output == printed


def test_logs_lists_the_nodes_when_one_name_means_several(made: Any, slurm: Any) -> None:
    slurm.queue(HEAD, {**WORKER, "STATE": "RUNNING", "NODELIST": "n1"})
    shown = made.run("logs", made.write(), "n1")
    assert shown.exit_code == 1
    assert "n1 could be several nodes; name one:\n  hh-0  head  job 7  n1" in shown.output
    assert "ww-0  worker" in shown.output


def test_logs_of_a_stranger_lists_what_there_is(made: Any) -> None:
    shown = made.run("logs", made.write(), "zzz")
    assert shown.exit_code == 1
    assert "no node is called 'zzz'" in shown.output
    assert "hh-0" in shown.output


def test_logs_of_a_node_that_has_not_started_says_so(made: Any) -> None:
    held = {"node_id": "xx-0", "node_type": "cpu", "reason": "a limit of the site"}
    (made.directory / "autoscaler.json").write_text(json.dumps({"held": [held], "types": {}}))
    shown = made.run("logs", made.write(), "xx-0")
    assert "xx-0 is held back, not submitted yet, so it has no log: a limit" in shown.output
    (made.directory / "logs" / "ww-0.log").unlink()
    shown = made.run("logs", made.write(), "ww-0")
    assert "node ww-0 has no log yet: its job 8_0 is in Slurm's queue" in shown.output


def test_script_shows_the_line_the_script_and_the_activation_and_submits_nothing(
    cli: Any, slurm: Any
) -> None:
    cli.config["provider"]["environment"] = {"activate": "module load ray; echo 'x y'"}
    shown = cli.run("script", cli.write(), "cpu", "--count", "3")
    assert shown.exit_code == 0, shown.output
    for part in ("--array=0-2", "--cpus-per-task=2", "--mem=2G", "--partition=compute",
                 "ray:demo:cpu:UUID:worker:LAUNCH", "#!/bin/bash -l",
                 "module load ray; echo 'x y'"):  # fmt: skip
        assert part in shown.output
    assert slurm.calls == []
    assert not cli.directory.exists()


def test_script_of_one_node_is_a_single_job(cli: Any) -> None:
    output = cli.run("script", cli.write(), "head").output
    assert "--array" not in output
    assert "ray:demo:head:UUID:head:LAUNCH-0" in output


def test_script_of_a_head_on_the_edge_node_says_that_no_job_is_submitted(cli: Any) -> None:
    cli.config["provider"]["head_placement"] = "edge"
    cli.config["available_node_types"]["head"]["node_config"] = {}
    shown = cli.run("script", cli.write(), "head")
    assert shown.exit_code == 1
    assert "no job is submitted for it" in shown.output


ORPHAN = {"JOBID": "20", "JOBID_": "20", "NAME": "ray:demo:cpu:old:worker:oo-0"}
STRANGER = {"JOBID": "30", "JOBID_": "30", "NAME": "ray:else:cpu:x:worker:ee-0"}


def test_sweep_cancels_only_orphans_of_its_cluster_in_one_go(made: Any, slurm: Any) -> None:
    second = {**ORPHAN, "JOBID": "21", "JOBID_": "21"}
    slurm.queue(HEAD, WORKER, ORPHAN, second, STRANGER, {"NAME": "mine"})
    shown = made.run("sweep", made.write(), stdin="y\n")
    assert shown.exit_code == 0, shown.output
    assert "of an earlier cluster of this name" in shown.output
    assert [call for call in slurm.calls if "scancel" in call] == ["scancel 20 21"]


def test_sweep_cancels_nothing_when_the_answer_is_no(made: Any, slurm: Any) -> None:
    slurm.queue(HEAD, ORPHAN)
    shown = made.run("sweep", made.write(), stdin="n\n")
    assert shown.exit_code == 1
    assert not [call for call in slurm.calls if "scancel" in call]


def test_sweep_takes_workers_whose_head_is_gone(made: Any, slurm: Any) -> None:
    slurm.queue({**HEAD, "STATE": "CANCELLED"}, WORKER)
    shown = made.run("sweep", made.write(), "--yes")
    assert "the cluster's head is gone" in shown.output
    assert [call for call in slurm.calls if "scancel" in call] == ["scancel 8_0"]


def test_sweep_takes_everything_of_a_cluster_whose_directory_is_gone(cli: Any, slurm: Any) -> None:
    slurm.queue(HEAD, WORKER)
    shown = cli.run("sweep", cli.write(), "--yes")
    assert shown.output.count("the cluster's directory is gone") == 2


def test_sweep_of_all_leaves_clusters_with_a_head_alone_wherever_their_directory_is(
    cli: Any, slurm: Any
) -> None:
    slurm.queue(HEAD, WORKER, STRANGER)
    shown = cli.run("sweep", "--all", "--yes")
    assert "else" in shown.output
    assert [call for call in slurm.calls if "scancel" in call] == ["scancel 30"]


def test_sweep_needs_a_cluster_or_all(cli: Any) -> None:
    shown = cli.run("sweep")
    assert shown.exit_code == 1
    assert "give a CONFIG, or --all" in shown.output


def test_resume_leaves_a_note_for_the_autoscaler(made: Any) -> None:
    state = {"paused": True, "failures": 5, "wait_until": 0, "cause": "x", "where": []}
    (made.directory / "autoscaler.json").write_text(
        json.dumps({"held": [], "types": {"cpu": state}})
    )
    shown = made.run("resume", made.write())
    assert shown.output == "The autoscaler will try again: cpu. See `ray-slurm status`.\n"
    assert (made.directory / "resume").exists()


def test_resume_of_a_healthy_cluster_changes_nothing(made: Any) -> None:
    shown = made.run("resume", made.write())
    assert "nothing to do" in shown.output
    assert not (made.directory / "resume").exists()


def test_a_moment_of_today_is_the_clock_and_another_day_has_its_date() -> None:
    now = 1_700_000_000.0
    assert moment(None) == ""
    assert len(moment(now, now)) == 5
    assert len(moment(now - 5 * 86400, now)) == 12
    assert moment(now - 400 * 86400, now)[-4:] == "2022"


def test_reports_of_all_nodes_are_read_together_and_strange_files_are_left_out(made: Any) -> None:
    from slurm_provider.cli.cluster_file import load

    for name, text in (("a{b", '{"node_id": "x-1", "n": {"m": 1}}'), ("c", '{"node_id": "x-2"}')):
        folder = made.directory / "nodes" / name
        folder.mkdir()
        (folder / "node.json").write_text(text)
        (folder / "tags.json").write_text('{"no": "report"}')
    store = load(made.write()).cluster.store
    assert sorted(store.reports()) == ["hh-0", "x-1", "x-2"]
    assert store.logged_nodes() == ["hh-0", "ww-0"]
    assert Path(store.code_path).name.startswith("slurm_provider-")
