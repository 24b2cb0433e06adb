"""The command line of `ray start`, and how it mixes with a user's."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_provider.agent.allocation import MB, Allocation
from slurm_provider.agent.node import RayRuntime
from slurm_provider.agent.ports import ServicePorts
from slurm_provider.agent.ray_start import (
    METRICS,
    NodePlan,
    head_options,
    merge,
    metrics_env,
    node_labels,
    option_value,
    to_argv,
    worker_options,
)
from tests.sandbox_fixture import wait_for

ALLOCATION = Allocation("42", 4, 2048, 0, "n1.site.org", "compute", 1_800_000_000.0)
PLAN = NodePlan(
    allocation=ALLOCATION,
    node_type="cpu",
    address="10.0.0.1",
    worker_ports=[20015, 20016],
    temp_dir="/tmp/rs-0/abc-0",
    shm_free_mb=64_000,
)
PORTS = ServicePorts(*range(20001, 20012))
CONFIG = "/shared/nodes/abc-0/bootstrap.json"


def test_a_node_reports_its_share_and_uses_its_own_ports() -> None:
    options = worker_options(PLAN, PORTS, "10.0.0.9:20007")
    assert options["--address"] == "10.0.0.9:20007"
    assert options["--num-cpus"] == "4"
    assert options["--num-gpus"] == "0"
    assert int(options["--memory"] or 0) + int(options["--object-store-memory"] or 0) < 2048 * MB
    assert options["--worker-port-list"] == "20015,20016"
    assert options["--temp-dir"] == "/tmp/rs-0/abc-0"
    assert "--block" in options and options["--block"] is None


def test_no_two_services_share_a_port() -> None:
    options = head_options(PLAN, PORTS)
    ports = [v for k, v in options.items() if k.endswith("port") and v is not None]
    assert len(ports) == 9
    assert len({*ports, *metrics_env(PORTS, {METRICS: "1"}).values()}) == 11


@pytest.mark.parametrize("value", [None, "0", "false"])
def test_without_metrics_no_port_is_opened_for_them(value: str | None) -> None:
    env = {} if value is None else {METRICS: value}
    for port in metrics_env(PORTS, env).values():
        with socket.socket() as server, pytest.raises(OverflowError):
            server.bind(("127.0.0.1", int(port)))


def test_every_option_is_one_of_rays() -> None:
    from ray.scripts.scripts import start

    known = {name for parameter in start.params for name in parameter.opts}
    assert head_options(PLAN, PORTS).keys() | worker_options(PLAN, PORTS, "x:1").keys() <= known


def test_a_worker_has_no_option_of_the_head_not_even_a_users() -> None:
    extra = {"dashboard-host": "0.0.0.0", "dashboard-port": "1", "include-dashboard": "false",
             "port": "2", "ray-client-server-port": "3", "num-cpus": "7"}  # fmt: skip
    options = worker_options(replace(PLAN, extra=extra), PORTS, "10.0.0.9:20007")
    head_only = {"--head", "--port", "--ray-client-server-port", "--dashboard-host",
                 "--dashboard-port", "--include-dashboard", "--autoscaling-config"}  # fmt: skip
    assert not head_only & options.keys()
    assert options["--num-cpus"] == "7"


def test_the_dashboard_is_on_loopback_unless_the_user_says_otherwise() -> None:
    assert head_options(PLAN, PORTS)["--dashboard-host"] == "127.0.0.1"
    opened = replace(PLAN, extra={"dashboard-host": "0.0.0.0"})
    assert head_options(opened, PORTS)["--dashboard-host"] == "0.0.0.0"


def test_the_users_own_figures_win() -> None:
    plan = replace(PLAN, memory_bytes=123, object_store_memory_mb=100)
    options = head_options(plan, PORTS)
    assert options["--memory"] == "123"
    assert options["--object-store-memory"] == str(100 * MB)


def test_a_gpu_type_becomes_rays_resource_and_label() -> None:
    plan = replace(PLAN, allocation=replace(ALLOCATION, gpus=2), gpu_type="nvidia_a100_40gb")
    options = worker_options(plan, PORTS, "x:1")
    assert json.loads(options["--resources"] or "") == {"accelerator_type:A100": 1}
    assert node_labels(plan)["ray.io/accelerator-type"] == "A100"


def test_without_gpus_there_is_no_accelerator() -> None:
    plan = replace(PLAN, gpu_type="a100")
    assert json.loads(worker_options(plan, PORTS, "x:1")["--resources"] or "") == {}
    assert "ray.io/accelerator-type" not in node_labels(plan)


@pytest.mark.parametrize(
    "given_arguments",
    [
        ["--head", "--num-cpus=0", "--dashboard-host=0.0.0.0", "--port=6379"],
        ["--head", "--num-cpus", "0", "--dashboard-host", "0.0.0.0", "--port", "6379"],
    ],
    ids=["equals", "space"],
)
def test_what_the_user_wrote_wins(given_arguments: list[str]) -> None:
    merged = merge(given_arguments, head_options(PLAN, PORTS), CONFIG)
    assert merged[: len(given_arguments)] == given_arguments
    for name, value in (("--num-cpus", "0"), ("--dashboard-host", "0.0.0.0"), ("--port", "6379")):
        assert option_value(merged, name) == value
        assert sum(argument.partition("=")[0] == name for argument in merged) == 1
    assert option_value(merged, "--temp-dir") == "/tmp/rs-0/abc-0"
    assert merged.count("--block") == 1


def test_a_users_block_is_not_repeated() -> None:
    assert merge(["--block", "--head"], head_options(PLAN, PORTS), CONFIG).count("--block") == 1


@pytest.mark.parametrize(
    ("argument", "result"),
    [
        (["--autoscaling-config=~/ray_bootstrap_config.yaml"], [f"--autoscaling-config={CONFIG}"]),
        (["--autoscaling-config", "/home/me/ray_bootstrap_config.yaml"],
         ["--autoscaling-config", CONFIG]),
        (["--autoscaling-config=~/mine.yaml"], ["--autoscaling-config=~/mine.yaml"]),
    ],
)  # fmt: skip
def test_the_bootstrap_config_is_this_clusters_own(argument: list[str], result: list[str]) -> None:
    assert merge(argument, {}, CONFIG) == result


def test_the_last_value_of_an_option_counts() -> None:
    arguments = ["--port=1", "--port", "2", "--porter=3"]
    assert option_value(arguments, "--port") == "2"
    assert option_value(arguments, "--dashboard-port") is None
    assert option_value(["--port"], "--port") is None


def test_flags_have_no_value_in_argv() -> None:
    assert to_argv({"--block": None, "--port": "1"}) == ["--block", "--port=1"]


def rays_reading(plan: NodePlan) -> dict[str, str]:
    from ray._private.label_utils import parse_node_labels_string

    found: dict[str, str] = parse_node_labels_string(head_options(plan, PORTS)["--labels"] or "")
    return found


def test_ray_accepts_the_labels() -> None:
    assert rays_reading(replace(PLAN, labels={"team": "physics"})) == {
        "slurm/node-type": "cpu",
        "slurm/host": "n1.site.org",
        "slurm/job-id": "42",
        "slurm/partition": "compute",
        "slurm/end-time": "2027-01-15T08.00.00Z",
        "team": "physics",
    }


def test_a_users_label_wins_and_empty_ones_are_left_out() -> None:
    outside = replace(ALLOCATION, job_id="", partition="", end_time=None)
    plan = replace(PLAN, allocation=outside, labels={"slurm/host": "mine"})
    assert rays_reading(plan) == {"slurm/node-type": "cpu", "slurm/host": "mine"}


@settings(deadline=None)
@given(
    partition=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80),
    end=st.floats(0, 4e9),
    gpu_type=st.text(st.sampled_from("aA19_.-+"), min_size=1, max_size=80),
)
def test_whatever_slurm_calls_things_ray_accepts_the_labels(
    partition: str, end: float, gpu_type: str
) -> None:
    allocation = replace(ALLOCATION, partition=partition, end_time=end, gpus=1)
    labels = rays_reading(replace(PLAN, allocation=allocation, gpu_type=gpu_type))
    assert labels["slurm/job-id"] == "42"


def test_ray_and_so_its_tasks_start_in_the_node_s_own_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = RayRuntime(["/bin/sh", "-c", "pwd"], {}, str(tmp_path))
    wait_for(lambda: runtime.exit_code() is not None, 10)
    assert capsys.readouterr().out == f"{tmp_path}\n"
