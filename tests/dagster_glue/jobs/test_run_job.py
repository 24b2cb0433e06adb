"""Payloads on a real Ray: what arrives, in what shape, and what becomes of failures."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagster_glue.jobs.client import JobRecord, JobsApi, JobUnknown
from dagster_glue.jobs.outcome import FailureKind
from dagster_glue.jobs.run import FinishedJob

# Test modules cannot import conftest under importlib mode; its helpers come as a fixture.


def test_a_script_runs_on_the_cluster_with_its_files_arguments_environment_and_extras(
    cluster: Any, materialize: Any, script: Callable[..., str], tmp_path: Path, capfd: Any
) -> None:
    (tmp_path / "words.txt").write_text("hello")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "helper.py").write_text("def shout(text): return text.upper()")
    path = script(
        """
        import os, sys
        import ray
        from dagster_pipes import PipesContext, open_dagster_pipes
        from lib.helper import shout

        @ray.remote
        def work(text):
            return shout(text), os.environ["MODE"], "DAGSTER_PIPES_MESSAGES" in os.environ

        with open_dagster_pipes() as pipes:
            ray.init(address="auto")
            print("on stdout \\u2713")
            print("on stderr", file=sys.stderr)
            loud, mode, has_pipes = ray.get(work.remote(open("words.txt").read()))
            pipes.report_asset_materialization(
                metadata={"loud": loud, "mode": mode, "argv": sys.argv[1:],
                          "lr": pipes.get_extra("lr"), "has_pipes": has_pipes},
                data_version="7",
            )
        """
    )
    made = materialize(
        cluster,
        f"{path} --name 'two words' '$HOME'",
        extra_files=[str(tmp_path / "words.txt"), str(tmp_path / "lib")],
        extra_env={"MODE": "offline"},
        extras={"lr": 0.5, "password": "sesame", "big": "x" * 300_000},
    )
    assert made.result.success, made.failure
    (event,) = made.result.asset_materializations_for_node("trained")
    assert {key: value.value for key, value in event.metadata.items()} == {
        "loud": "HELLO",
        "mode": "offline",
        "argv": ["--name", "two words", "$HOME"],
        "lr": 0.5,
        "has_pipes": False,  # one writer per messages file
    }
    printed = capfd.readouterr()
    assert "on stdout ✓" in printed.out
    assert "on stderr" in printed.err
    log = Path(made.job.outcome.log_path).read_text()
    assert "on stdout" in log and "on stderr" in log
    assert made.job.outcome.ray_job_id

    connection = cluster.open_jobs()
    url = f"{connection.address}/api/jobs/{made.job.outcome.submission_id}"
    with urllib.request.urlopen(urllib.request.Request(url, headers=connection.headers)) as answer:
        shown = answer.read()
    assert b"offline" in shown and b"sesame" not in shown
    folder = os.path.dirname(made.job.outcome.log_path)
    assert os.stat(folder).st_mode & 0o077 == 0
    assert os.stat(os.path.join(folder, "context.json")).st_mode & 0o077 == 0


# What any user of the host sees while the payload runs, and what Ray shows of the job, is
# compared with the context as it travels.
SECRETIVE = """
    import os, subprocess, sys
    from dagster_pipes import open_dagster_pipes

    context = os.environ["DAGSTER_PIPES_CONTEXT"]
    with open_dagster_pipes() as pipes:
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        folders = [f for f in os.environ["PYTHONPATH"].split(":") if "py_modules" in f]
        left = [name for folder in folders for name in os.listdir(folder) if "json" in name]
        pipes.report_custom_message(
            [pipes.get_extra("password"), context, context in listing, left, sys.argv[1:],
             os.path.basename(os.getcwd()).startswith("_ray_pkg_")]
        )
"""


def test_without_a_shared_file_system_the_context_is_shown_to_nobody(
    unshared: Any, materialize: Any, script: Callable[..., str]
) -> None:
    path = script(SECRETIVE)
    made = materialize(unshared, f"{path} 'it''s' '$(id)'", extras={"password": "sesame"})
    assert made.result.success, made.failure
    ((password, context, is_in_ps, left, arguments, is_in_package),) = made.messages
    assert (password, is_in_ps, left, is_in_package) == ("sesame", False, [], True)
    assert arguments == ["its", "$(id)"]
    connection = unshared.open_jobs()
    url = f"{connection.address}/api/jobs/"
    with urllib.request.urlopen(urllib.request.Request(url, headers=connection.headers)) as answer:
        shown = answer.read()
    assert made.job.outcome.submission_id.encode() in shown
    assert context.encode() not in shown and b"sesame" not in shown
    events = str(made.result.all_events)
    assert "sesame" not in events and context not in events


def test_one_script_runs_in_its_run_folder_without_an_environment_of_ray_s_own(
    cluster: Any, materialize: Any, script: Callable[..., str]
) -> None:
    path = script(
        """
        import json, ray
        from dagster_pipes import open_dagster_pipes

        with open_dagster_pipes() as pipes:
            ray.init(address="auto")
            pipes.report_custom_message(json.loads(ray.get_runtime_context().get_runtime_env_string()))
            open("result.txt", "w").write("kept")
        """
    )
    made = materialize(cluster, path)
    assert made.result.success, made.failure
    assert made.messages == [{}]
    folder = Path(made.job.outcome.log_path).parent / "payload"
    assert (folder / "result.txt").read_text() == "kept"
    assert (folder / os.path.basename(path)).read_text() == Path(path).read_text()


def test_a_module_runs_in_its_working_dir_which_leaves_out_what_ray_leaves_out(
    cluster: Any, materialize: Any, tmp_path: Path
) -> None:
    package = tmp_path / "train"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "entrypoint.py").write_text(
        "import os, sys\n"
        "from dagster_pipes import open_dagster_pipes\n"
        "with open_dagster_pipes() as pipes:\n"
        "    found = sorted(n for n in os.listdir('.') if n != 'train')\n"
        "    pipes.report_custom_message([found, sys.argv[1:]])\n"
    )
    (tmp_path / ".gitignore").write_text("*.bin\n")
    (tmp_path / "data.bin").write_bytes(b"0" * 100)
    (tmp_path / "notes.tmp").touch()
    (tmp_path / "kept.txt").touch()
    made = materialize(
        cluster,
        "python -m train.entrypoint --name 'a b'",
        working_dir=str(tmp_path),
        runtime_env={"excludes": ["*.tmp"]},
    )
    assert made.result.success, made.failure
    assert made.messages == [[[".gitignore", "kept.txt"], ["--name", "a b"]]]


MANY = """
    import sys, threading
    from dagster_pipes import open_dagster_pipes

    def noise():
        for i in range(300):
            sys.stdout.write(f"\\r{i}%"); sys.stdout.flush()
            sys.stderr.write("chatter " * 50)

    with open_dagster_pipes() as pipes:
        thread = threading.Thread(target=noise)
        thread.start()
        for i in range(int(sys.argv[2])):
            pipes.report_custom_message("x" * 5_000_000)
        for i in range(int(sys.argv[1])):
            pipes.report_custom_message(i)
        thread.join()
"""


def test_nothing_is_lost_of_large_and_many_messages_for_two_assets_of_one_process(
    cluster: Any, materialize: Any, script: Callable[..., str]
) -> None:
    path = script(MANY)
    for small, large in ((10_000, 3), (10, 0)):
        made = materialize(cluster, f"{path} {small} {large}")
        assert made.result.success, made.failure
        assert made.messages == [*["x" * 5_000_000] * large, *range(small)]


def test_retries_relaunch_a_failed_job_and_a_success_that_was_turned_down(
    cluster: Any, materialize: Any, script: Callable[..., str], tmp_path: Path
) -> None:
    path = script(
        f"""
        import os
        from dagster_pipes import open_dagster_pipes

        attempt = len(os.listdir({str(tmp_path / "attempts")!r}))
        open(os.path.join({str(tmp_path / "attempts")!r}, str(attempt)), "w").close()

        def deep():
            raise ValueError("learning rate must be positive")

        if attempt != 1:
            with open_dagster_pipes() as pipes:
                if attempt == 0:
                    deep()
                pipes.report_custom_message("third time")
        """
    )
    (tmp_path / "attempts").mkdir()
    made = materialize(cluster, path, retries=2)
    raised, silent, succeeded = (job.outcome for job in made.jobs)

    assert (raised.kind, raised.exit_code) == (FailureKind.PAYLOAD, 1)
    assert "ValueError: learning rate must be positive" in raised.message
    assert "in deep" in raised.message
    assert "learning rate" in Path(raised.log_path).read_text()
    failure = made.jobs[0].failure()
    assert failure.metadata["run_log"].value == raised.log_path
    assert failure.metadata["failure_kind"].value == "payload"

    assert (silent.kind, silent.exit_code) == (FailureKind.PAYLOAD, 0)
    assert "never opened Dagster Pipes" in silent.message

    assert made.result.success
    assert made.messages == ["third time"]
    names = [outcome.submission_id for outcome in (raised, silent, succeeded)]
    assert [name[-4:] for name in names] == ["-0-0", "-0-1", "-0-2"]


def test_a_success_is_gone_on_with_though_its_cluster_has_left(
    cluster: Any,
    materialize: Any,
    script: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = script(
        f"""
        from dagster_pipes import open_dagster_pipes

        open({str(tmp_path / "ran")!r}, "a").write("once ")
        with open_dagster_pipes() as pipes:
            pipes.report_custom_message("hello")
        """
    )
    real, gone = JobsApi.job, set[str]()

    def job(api: JobsApi, submission_id: str) -> JobRecord:
        if submission_id in gone:
            raise JobUnknown(submission_id)
        return real(api, submission_id)

    monkeypatch.setattr(JobsApi, "job", job)

    def fail_once(finished: FinishedJob) -> None:
        if not gone:
            gone.add(finished.outcome.submission_id)
            raise RuntimeError("of the asset's own code")

    made = materialize(cluster, path, retries=1, after=fail_once)
    assert made.result.success, made.failure
    assert made.messages == ["hello"]
    assert (tmp_path / "ran").read_text() == "once "
    first, second = (finished.outcome for finished in made.jobs)
    assert (first.was_adopted, second.was_adopted) == (False, True)
    assert (first.ran_elsewhere, second.ran_elsewhere) == (False, True)
    assert first.submission_id == second.submission_id
