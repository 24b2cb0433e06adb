from __future__ import annotations

import pytest

from slurm_provider.slurm import MAX_COMPONENTS, Component, OptionError, Submission, submit_argv
from slurm_provider.slurm.hetjob import CARRIED_OVER, CarriedOver, carried_over
from slurm_provider.slurm.option_table import OPTIONS
from slurm_provider.slurm.step import agent_argv, step_argv
from slurm_provider.slurm.submit import parse_submitted


def test_components_are_parted_by_colons_and_the_script_comes_last() -> None:
    gpu = Component({"partition": "gpu", "gres": "gpu:1"}, {"job-name": "ray:gpu"})
    cpu = Component({}, {"job-name": "ray:cpu"})
    submission = Submission("/s.sh", ["x"], {"partition": "c"}, more_components=[gpu, cpu])
    argv = submit_argv(submission)
    assert argv[argv.index("--export=ALL") + 1 :] == [
        "--nodes=1", "--ntasks=1", "--partition=c", ":",
        "--gres=gpu:1", "--job-name=ray:gpu", "--nodes=1", "--ntasks=1", "--partition=gpu", ":",
        "--job-name=ray:cpu", "--nodes=1", "--ntasks=1", "/s.sh", "x",
    ]  # fmt: skip


def test_every_component_is_checked() -> None:
    with pytest.raises(OptionError, match="belongs to the provider"):
        submit_argv(Submission("s.sh", more_components=[Component({"wrap": "rm -rf /"})]))


def test_an_answer_lists_the_components_as_squeue_will() -> None:
    submitted = parse_submitted("106\n", components=3)
    assert submitted is not None
    assert submitted.job_ids == ("106+0", "106+1", "106+2")


@pytest.mark.parametrize(
    "submission",
    [
        Submission("s.sh", array_tasks=[0, 1], more_components=[Component()]),
        Submission("s.sh", more_components=[Component()] * MAX_COMPONENTS),
        Submission("s.sh", options={"time": "5"}, more_components=[Component()]),
    ],
)
def test_what_slurm_would_refuse_or_change_is_not_submitted(submission: Submission) -> None:
    with pytest.raises(ValueError):
        submit_argv(submission)


@pytest.mark.parametrize(
    ("components", "found"),
    [
        ([{"time": "5"}, {"time": "9"}], None),
        ([{"partition": "a"}, {}], None),
        ([{}, {"time": "5"}], None),
        ([{"mem": "1G"}, {"mem-per-cpu": "1G"}], CarriedOver("mem", 0, 1)),
        ([{}, {"qos": "high"}, {"qos": "low"}, {}], CarriedOver("qos", 2, 3)),
    ],
)
def test_an_option_that_would_leave_its_component_is_found(
    components: list[dict[str, object]], found: CarriedOver | None
) -> None:
    assert carried_over(components) == found


def test_what_is_carried_over_are_options_of_sbatch() -> None:
    assert {name for name in CARRIED_OVER if name not in OPTIONS} == set()


def test_a_step_in_a_component_is_asked_for_by_the_leader_and_a_number() -> None:
    argv = step_argv("106", ["true"], cpus=2, component=0)
    assert argv[1:3] == ["--jobid=106", "--het-group=0"]
    assert not any(word.startswith("--het-group") for word in step_argv("7", ["true"], cpus=1))


def test_a_step_on_a_named_slurm_cluster_is_asked_for_there() -> None:
    assert step_argv("7", ["true"], cpus=1, clusters="lab")[1] == "--clusters=lab"


def test_an_agent_s_step_shares_its_component_and_gets_named_variables_only() -> None:
    argv = agent_argv("106", 2, ["node.sh"], cpus=4, log="/l/a b.log", variables=["HOME", "X"])
    assert {"--jobid=106", "--het-group=2", "--overlap", "--cpus-per-task=4"} <= set(argv)
    assert {"--export=HOME,X", "--output=/l/a b.log", "--open-mode=append"} <= set(argv)
    assert argv[-1] == "node.sh"
