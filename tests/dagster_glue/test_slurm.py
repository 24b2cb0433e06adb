from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from dagster_glue import ConfigError, SlurmQueueConfig, SlurmResource, SlurmSessionResource
from dagster_glue.slurm import sbatch_options
from slurm_provider.transport import LocalTransport


def test_every_field_becomes_the_sbatch_option_of_its_meaning() -> None:
    queue = SlurmQueueConfig(
        partition="compute", qos="normal", account="a", time_limit="01:00:00", num_nodes=3, cpus=4,
        mem="8G", gpus_per_node=2, constraint="ib", reservation="r", exclude="n1", nodelist="n2",
        extra_slurm_opts={"exclusive": True, "mail-type": "END"},
    )  # fmt: skip
    assert queue.options() == {
        "partition": "compute",
        "qos": "normal",
        "account": "a",
        "time": "01:00:00",
        "cpus-per-task": "4",
        "mem": "8G",
        "gpus-per-node": "2",
        "constraint": "ib",
        "reservation": "r",
        "exclude": "n1",
        "nodelist": "n2",
        "exclusive": True,
        "mail-type": "END",
    }


def test_the_other_words_for_memory_and_gpus_are_sbatch_s_too() -> None:
    queue = SlurmQueueConfig(mem_per_cpu="2G", gres="gpu:a100:2,shard:1", num_nodes=3)
    assert queue.options() == {"mem-per-cpu": "2G", "gres": "gpu:a100:2,shard:1"}
    assert queue.num_nodes == 3  # how many workers there may be, not hosts of a job


def test_what_is_not_said_is_left_to_the_site() -> None:
    assert SlurmQueueConfig().options() == {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"partion": "x"}, "no argument 'partion'; closest: partition"),
        ({"time_limit": "soon"}, "'soon' is not a time span"),
        ({"mem": "1G", "mem_per_cpu": "1G"}, "exclude each other"),
        ({"extra_slurm_opts": {"partitoin": "x"}}, "closest: 'partition'"),
        ({"extra_slurm_opts": {"job-name": "x"}}, "belongs to the provider"),
        ({"partition": "a", "extra_slurm_opts": {"partition": "b"}}, "also in extra_slurm_opts"),
        ({"num_nodes": 0}, "at least 1"),
    ],
)
def test_a_mistake_is_refused_where_it_was_made(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SlurmQueueConfig(**values)


def test_a_queue_may_come_from_variables_which_are_judged_when_they_have_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = SlurmQueueConfig(time_limit=dg.EnvVar("LIMIT"), cpus=dg.EnvVar.int("CPUS"))
    monkeypatch.setenv("LIMIT", "10")
    monkeypatch.setenv("CPUS", "2")
    assert queue.options() == {"time": "10", "cpus-per-task": "2"}
    monkeypatch.setenv("LIMIT", "soon")
    with pytest.raises(ConfigError, match="'soon' is not a time span"):
        queue.options()


def test_dagster_fills_in_variables_of_nested_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[SlurmQueueConfig] = []

    @dg.asset
    def look(slurm: SlurmResource) -> None:
        seen.append(slurm.queue)

    slurm = SlurmResource(queue=SlurmQueueConfig(partition=dg.EnvVar("THE_PARTITION")))
    monkeypatch.setenv("THE_PARTITION", "compute")
    assert dg.materialize([look], resources={"slurm": slurm}).success
    assert seen[0].partition == "compute"


def test_options_of_a_run_go_by_our_names_and_by_sbatch_s() -> None:
    given = {"time_limit": "5", "cpus_per_task": 2, "mem-per-cpu": "1G", "exclusive": False}
    assert sbatch_options(given, "here") == {
        "time": "5",
        "cpus-per-task": "2",
        "mem-per-cpu": "1G",
        "exclusive": False,
    }


def test_an_option_by_two_names_is_refused() -> None:
    with pytest.raises(ConfigError, match="here: 'time_limit' and 'time' are one option"):
        sbatch_options({"time_limit": "5", "time": "6"}, "here")


def test_without_ssh_slurm_is_on_this_machine() -> None:
    assert isinstance(SlurmResource().transport(), LocalTransport)


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        (None, None, "~/dagster-ray"),
        (None, "/scratch/me/", "/scratch/me"),
        ("~/here", "/scratch/me", "~/here"),
        ("$HOME/here", None, "~/here"),
    ],
)
def test_the_base_path_is_the_resource_s_then_the_variable_s(
    given: str | None, variable: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_DEPLOYMENT_BASE_PATH", raising=False)
    if variable is not None:
        monkeypatch.setenv("SLURM_DEPLOYMENT_BASE_PATH", variable)
    assert SlurmResource(remote_base=given).base_path() == expected


def test_a_relative_base_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be absolute"):
        SlurmResource(remote_base="runs").base_path()


def test_a_session_changes_of_the_queue_only_what_it_names() -> None:
    queue = SlurmQueueConfig(partition="compute", num_nodes=2, extra_slurm_opts={"nice": 5})
    assert SlurmSessionResource(num_nodes=4).applied(queue) == SlurmQueueConfig(
        partition="compute", num_nodes=4, extra_slurm_opts={"nice": 5}
    )


def test_another_word_of_the_session_on_memory_takes_the_place_of_the_queue_s() -> None:
    applied = SlurmSessionResource(mem_per_cpu="1G").applied(SlurmQueueConfig(mem="8G"))
    assert applied == SlurmQueueConfig(mem_per_cpu="1G")


def test_a_session_s_name_has_to_fit_into_a_cluster_s() -> None:
    with pytest.raises(ConfigError, match="letters, digits and '-'"):
        SlurmSessionResource(name="my session")
