"""What sbatch is asked for, and what the agents read."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_provider.cluster_paths import ClusterPaths
from slurm_provider.config import EnvironmentConfig, ProviderConfig, parse_provider
from slurm_provider.fleet.identity import HEAD, WORKER, JobIdentity
from slurm_provider.fleet.launch import (
    LaunchRequest,
    activation,
    node_spec,
    provider_options,
    signal_lead_s,
)
from slurm_provider.slurm import Submission, submit_argv

PATHS = ClusterPaths("/shared/demo")
LAUNCH = "abcdefghij"
REQUEST = LaunchRequest(
    kind=WORKER,
    node_type="gpu",
    options={"partition": "gpu", "mem": "4G"},
    resources={"CPU": 2, "GPU": 1, "memory": 10**9, "license": 3},
    given={"CPU": 2, "license": 3},
    labels={"team": "x"},
    gpu_type="a100",
    setup_commands=("echo hi",),
    file_mounts=(("/shared/demo/mounts/1", "~/data"),),
)


def config(**section: Any) -> ProviderConfig:
    return parse_provider(section)


def environment(**given: str) -> EnvironmentConfig:
    return EnvironmentConfig.model_validate(given)


def bash(lines: str, env: dict[str, str] | None = None) -> str:
    """Source the lines as node.sh does; what is then printed."""
    done = subprocess.run(
        ["bash", "-c", lines], env={"PATH": os.environ["PATH"], **(env or {})},
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def with_ray(prefix: Path) -> None:
    """Make a folder with a program `ray` that says that it was found."""
    program = prefix / "bin" / "ray"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)


class TestActivation:
    """How the environment gets on PATH; by real shells."""

    ODD = ("plain", "with space", "it's", 'a"b', "$HOME", "$(reboot)", "back`tick`", "ä", "a;b&c",
           "trailing\\", "*")  # fmt: skip

    @pytest.mark.parametrize("name", ODD)
    def test_a_prefix_may_have_any_name(self, tmp_path: Path, name: str) -> None:
        with_ray(tmp_path / name)
        lines = activation(environment(prefix=str(tmp_path / name)), "/unused")
        assert bash(lines + "ray\n") == "found\n"

    @pytest.mark.parametrize("prefix", ["~/my venv", "~"])
    def test_a_prefix_below_home_is_that_of_the_host(self, tmp_path: Path, prefix: str) -> None:
        with_ray(tmp_path / prefix[2:])
        lines = activation(environment(prefix=prefix), "/unused")
        path = bash(lines + 'printf %s "$PATH"', {"HOME": str(tmp_path)})
        assert path == f"{tmp_path}{prefix[1:]}/bin:{os.environ['PATH']}"

    def test_a_prefix_without_ray_fails_instead_of_finding_another_ray(
        self, tmp_path: Path
    ) -> None:
        with_ray(tmp_path / "other")
        script = tmp_path / "activate"
        script.write_text(activation(environment(prefix=str(tmp_path / "bare")), "/unused"))
        done = subprocess.run(
            ["bash", "-c", f". {script} && ray || echo refused"],
            env={"PATH": f"{tmp_path}/other/bin:/usr/bin:/bin"},
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        assert done.stdout == "refused\n"
        assert f"there is no {tmp_path}/bare/bin/ray on " in done.stderr

    @pytest.mark.parametrize("name", ODD)
    def test_an_archive_and_the_script_may_have_any_name(self, tmp_path: Path, name: str) -> None:
        script = tmp_path / name / "unpack.sh"
        script.parent.mkdir()
        script.write_text('printf %s "$RAY_SLURM_ARCHIVE"\n')
        lines = activation(environment(archive=f"/envs/{name}.tar"), str(script))
        assert bash(lines) == f"/envs/{name}.tar"

    def test_the_users_lines_are_run_as_written(self) -> None:
        lines = "module() { echo loaded $2; }\nmodule load python; export A='x y'"
        text = activation(environment(activate=lines), "/unused")
        assert bash(text + 'echo "$A"') == "loaded python\nx y\n"

    def test_without_an_environment_nothing_is_changed(self) -> None:
        path = bash(activation(environment(), "/unused") + 'printf %s "$PATH"')
        assert path == os.environ["PATH"]


class TestSignalLead:
    """How long before its end a node is told."""

    @pytest.mark.parametrize(
        ("time", "lead_s"),
        [
            ("01:00:00", 120),
            ("8", 120),
            ("4", 60),
            ("1", 15),
            ("0:30", 15),
            ("1-00", 120),
            ("UNLIMITED", 120),
            (None, 120),
        ],
    )
    def test_it_is_at_most_a_quarter_of_the_limit(self, time: str | None, lead_s: int) -> None:
        options = {} if time is None else {"time": time}
        assert signal_lead_s(replace(REQUEST, options=options), config()) == lead_s

    def test_the_users_lead_counts(self) -> None:
        options = {"time": "01:00:00"}
        assert signal_lead_s(replace(REQUEST, options=options), config(drain_lead_s=600)) == 600
        assert signal_lead_s(replace(REQUEST, options=options), config(drain_lead_s=3000)) == 900

    def test_a_head_is_not_drained(self) -> None:
        assert signal_lead_s(replace(REQUEST, kind=HEAD), config()) is None


class TestSbatchOptions:
    """The options that belong to the provider."""

    def options(self, index: int | None = None, kind: str = WORKER) -> dict[str, Any]:
        identity = JobIdentity("demo", "gpu", "0123456789ab", kind, LAUNCH, index)
        return provider_options(identity, replace(REQUEST, kind=kind), config(), PATHS)

    def test_the_job_carries_its_identity_and_its_log(self) -> None:
        options = self.options()
        assert options["job-name"] == f"ray:demo:gpu:0123456789ab:worker:{LAUNCH}"
        assert options["output"] == f"/shared/demo/logs/{LAUNCH}-%a.log"
        assert self.options(index=0)["output"] == PATHS.log(f"{LAUNCH}-0")

    def test_the_log_of_a_task_is_where_the_provider_looks(self) -> None:
        assert self.options()["output"].replace("%a", "3") == PATHS.log(f"{LAUNCH}-3")

    def test_a_worker_is_signalled_alone_and_a_head_not(self) -> None:
        assert self.options()["signal"] == "B:USR1@120"
        assert "signal" not in self.options(index=0, kind=HEAD)

    def test_a_node_is_never_requeued(self) -> None:
        assert self.options()["no-requeue"] is True

    def test_sbatch_gets_them_with_the_users(self) -> None:
        argv = submit_argv(
            Submission("/shared/demo/code/node.sh", options=REQUEST.options,
                       provider_options=self.options())
        )  # fmt: skip
        for word in ("--partition=gpu", "--mem=4G", "--no-requeue", "--nodes=1", "--ntasks=1",
                     "--signal=B:USR1@120"):  # fmt: skip
            assert word in argv


class TestSpec:
    """What the agents of a launch read."""

    def spec(self, kind: str = WORKER, **section: Any) -> dict[str, Any]:
        request = replace(REQUEST, kind=kind)
        return node_spec(request, config(**section), PATHS, LAUNCH, "/code.zip", {"HEAD_ONLY": "1"})

    def test_it_is_json(self) -> None:
        spec = self.spec()
        assert json.loads(json.dumps(spec)) == spec

    def test_what_the_user_wrote_and_what_ray_shall_know_are_apart(self) -> None:
        spec = self.spec()
        assert spec["given"] == {"CPU": 2}
        assert spec["custom_resources"] == {"license": 3}
        assert spec["gpu_type"] == "a100" and spec["labels"] == {"team": "x"}

    def test_only_the_head_gets_the_autoscalers_environment_and_configuration(self) -> None:
        worker, head = self.spec(env={"A": "b"}), self.spec(HEAD, env={"A": "b"})
        assert worker["env"] == {"A": "b"} and worker["bootstrap_config"] is None
        assert head["env"] == {"A": "b", "HEAD_ONLY": "1"}
        assert head["bootstrap_config"] == f"{PATHS.node(f'{LAUNCH}-0')}/bootstrap.json"

    def test_the_configuration_reaches_the_agent(self) -> None:
        spec = self.spec(
            ports="30000-31000", network="ib0", temp_dir="/local", object_store_memory_mb=100,
            ray_start_options={"system-config": "{}"}, drain_lead_s=60, head_timeout_s=30,
            keep_logs=True, tls=True,
        )  # fmt: skip
        expected = {
            "ports": [30000, 31000], "network": "ib0", "temp_dir": "/local",
            "object_store_memory_mb": 100, "ray_start_options": {"system-config": "{}"},
            "drain_lead_s": 60, "head_timeout_s": 30, "keep_logs": True, "tls": True,
            "setup_commands": ["echo hi"], "file_mounts": [["/shared/demo/mounts/1", "~/data"]],
        }  # fmt: skip
        assert {key: spec[key] for key in expected} == expected

    def test_the_time_limit_is_told_in_seconds(self) -> None:
        request = replace(REQUEST, options={"time": "1-00:00:00"})
        spec = node_spec(request, config(), PATHS, LAUNCH, "/code.zip", {})
        assert spec["time_limit_s"] == 86400
        assert self.spec()["time_limit_s"] is None
