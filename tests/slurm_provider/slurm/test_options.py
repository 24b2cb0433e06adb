from __future__ import annotations

import re
import shutil
import subprocess
from datetime import date, datetime, timezone

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slurm_provider.slurm import OPTIONS, OptionError, Requested, requested, to_argv, validate

WHERE = "node_config of 'gpu'"


def argv_of(text: str) -> list[str]:
    """The words for sbatch of a node_config written in YAML."""
    return to_argv(validate(yaml.safe_load(text), WHERE))


def refusal_of(text: str) -> str:
    with pytest.raises(OptionError) as caught:
        argv_of(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("partition: gpu", ["--partition=gpu"]),
        ("partition: [gpu, long]", ["--partition=gpu,long"]),
        ("cpus-per-task: 4", ["--cpus-per-task=4"]),
        ("cpus-per-task: '4'", ["--cpus-per-task=4"]),
        ("mem: 4000", ["--mem=4000"]),
        ("mem: 4G", ["--mem=4G"]),
        ("mem: 0", ["--mem=0"]),
        ("time: '01:00:00'", ["--time=01:00:00"]),
        ("time: '60'", ["--time=60"]),
        ("time: 1-12", ["--time=1-12"]),
        ("gres: [gpu:a100:2, 'lustre:1']", ["--gres=gpu:a100:2,lustre:1"]),
        ("gpus-per-node: a100:2", ["--gpus-per-node=a100:2"]),
        ("gpus: 2", ["--gpus=2"]),
        ("constraint: ib&(big|huge)", ["--constraint=ib&(big|huge)"]),
        ("exclude: [n1, 'n[3-5]']", ["--exclude=n1,n[3-5]"]),
        ("exclusive: true", ["--exclusive"]),
        ("exclusive: user", ["--exclusive=user"]),
        ("exclusive: false", []),
        ("mem: false", []),
        ("nice: true", ["--nice"]),
        ("nice: 100", ["--nice=100"]),
        ("kill-on-invalid-dep: yes", ["--kill-on-invalid-dep=yes"]),
        ("kill-on-invalid-dep: no", ["--kill-on-invalid-dep=no"]),
        ("begin: now+1hour", ["--begin=now+1hour"]),
        ("begin: 2026-12-01", ["--begin=2026-12-01"]),
        ("nodes: 1", ["--nodes=1"]),
        ("ntasks: 1", ["--ntasks=1"]),
        ("nodelist: n7", ["--nodelist=n7"]),
        ("clusters: lab", ["--clusters=lab"]),
        ("propagate: true", ["--propagate"]),
        ("propagate: [NOFILE, MEMLOCK]", ["--propagate=NOFILE,MEMLOCK"]),
        ("account: '4711'", ["--account=4711"]),
        ("wait-all-nodes: 1", ["--wait-all-nodes=1"]),
    ],
)
def test_a_valid_option_becomes_one_word(text: str, argv: list[str]) -> None:
    assert argv_of(text) == argv


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("cpu-per-task: 3", ["'cpu-per-task' is not an sbatch option", "'cpus-per-task'"]),
        ("cpus_per_task: 3", ["did you mean 'cpus-per-task'"]),
        ("Partition: a", ["did you mean 'partition'"]),
        ("p: a", ["short option", "'partition'"]),
        ("-p: a", ["short option", "'partition'"]),
        ("--partition: a", ["did you mean 'partition'"]),
        ("zzzzzz: a", ["man sbatch"]),
        ("5: a", ["long option names"]),
        ("time: 60", ["quote it"]),
        ("time: 1:00:00", ["3600", "quote it"]),
        ("time: 5m", ["hours:minutes:seconds"]),
        ("time-min: 60", ["quote it"]),
        ("begin: 16:00", ["960", "quote it"]),
        ("deadline: 60", ["quote it"]),
        ("mem: 4X", ["K, M, G or T"]),
        ("mem: 1.5", ["1.5", "K, M, G or T"]),
        ("mem: -1", ["-1", "K, M, G or T"]),
        ("mem: true", ["true", "K, M, G or T"]),
        ("cpus-per-task: 0", ["whole number from 1"]),
        ("cpus-per-task: true", ["true is not a whole number"]),
        ("cpus-per-task: 1.5", ["1.5 is not a whole number"]),
        ("nodes: 2", ["only 1", "one host"]),
        ("nodes: 1-2", ["only 1", "one host"]),
        ("ntasks: 4", ["only 1", "one task"]),
        ("ntasks-per-gpu: 1", ["belongs to the provider", "cpus-per-gpu"]),
        ("nodelist: [n1, n2]", ["one host", "exclude"]),
        ("nodelist: n[1-2]", ["one host"]),
        ("nodelist: ./hosts", ["one host"]),
        ("clusters: a,b", ["reach each other"]),
        ("clusters: all", ["reach each other"]),
        ("gres: {gpu: 2}", ["mapping", "gpu:2"]),
        ("gres: gres/gpu:1", ["name:type:count"]),
        ("gres: gpu=1", ["name:type:count"]),
        ("gpus: many", ["a100:2"]),
        ("constraint: [a, b]", ["is a list", "a&b"]),
        ("exclusive:", ["no value", "false to leave it out"]),
        ("exclusive: all", ["user"]),
        ("contiguous: 1", ["switch", "true or false"]),
        ("partition: true", ["needs a value"]),
        ("account: 04711", ["2505", "quote"]),
        ("partition: ''", ["empty"]),
        ("partition: ' gpu'", ["space"]),
        ("partition: []", ["list"]),
        ("partition: [a, 'b,c']", ["list"]),
        ('qos: "a\\nb"', ["line break"]),
        ('qos: "a\\0b"', ["cannot be printed"]),
        ("hint: fast", ["nomultithread"]),
        ("mem: 1G\nmem-per-cpu: 1G", ["exclude each other", "false"]),
        ("cpus-per-task: 2\ncpus-per-gpu: 2", ["exclude each other"]),
    ],
)
def test_an_invalid_option_is_refused_with_place_and_remedy(text: str, hints: list[str]) -> None:
    message = refusal_of(text)
    assert message.startswith(WHERE)
    for hint in hints:
        assert hint in message
    assert "\n" not in message


def test_an_error_carries_key_value_and_reason() -> None:
    with pytest.raises(OptionError) as caught:
        validate({"mem": "4X"}, WHERE)
    assert (caught.value.key, caught.value.value) == ("mem", "4X")
    assert "not a memory size" in caught.value.reason


def test_a_moment_with_a_time_zone_is_refused_and_one_without_is_taken() -> None:
    naive = datetime(2026, 12, 1, 10, 30)
    assert to_argv(validate({"begin": naive}, WHERE)) == ["--begin=2026-12-01T10:30:00"]
    assert to_argv(validate({"deadline": date(2026, 12, 1)}, WHERE)) == ["--deadline=2026-12-01"]
    with pytest.raises(OptionError, match="time zone"):
        validate({"begin": naive.replace(tzinfo=timezone.utc)}, WHERE)


PROVIDER_OWNED = [
    "array",
    "batch",
    "chdir",
    "comment",
    "error",
    "export",
    "export-file",
    "get-user-env",
    "gid",
    "help",
    "hold",
    "ignore-pbs",
    "input",
    "job-name",
    "mem-update",
    "no-kill",
    "no-requeue",
    "nodefile",
    "ntasks-per-gpu",
    "open-mode",
    "output",
    "parsable",
    "quiet",
    "requeue",
    "signal",
    "test-only",
    "tres-per-task",
    "uid",
    "usage",
    "verbose",
    "version",
    "wait",
    "wrap",
]


@pytest.mark.parametrize("key", PROVIDER_OWNED)
def test_an_option_of_the_provider_is_refused_by_name_with_the_reason(key: str) -> None:
    with pytest.raises(OptionError) as caught:
        validate({key: "1"}, WHERE)
    assert f"{key!r} belongs to the provider: " in str(caught.value)
    assert OPTIONS[key].owner == "provider"
    assert str(OPTIONS[key].reason) in str(caught.value)


def test_no_other_option_belongs_to_the_provider() -> None:
    assert [o.name for o in OPTIONS.values() if o.owner == "provider"] == PROVIDER_OWNED


def test_the_table_is_sorted_and_every_option_has_a_help_sentence() -> None:
    assert list(OPTIONS) == sorted(OPTIONS)
    assert all(re.fullmatch(r"[A-Z].*\.", option.help) for option in OPTIONS.values())
    shorts = [option.short for option in OPTIONS.values() if option.short]
    assert len(shorts) == len(set(shorts))


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no `man` here")
def test_the_table_has_every_option_of_the_installed_sbatch_manual() -> None:
    page = subprocess.run(
        ["man", "sbatch"], capture_output=True, text=True, env={"MANWIDTH": "200"}, timeout=30
    ).stdout
    if not page.strip():
        pytest.skip("there is no manual page of sbatch here")
    # Depending on groff's version, an option's line is indented by 5 or 7.
    in_manual = set(re.findall(r"^ {5,7}(?:-\w, )?--([a-z][a-z-]+)", page, re.MULTILINE))
    assert in_manual, page[:1000]
    assert in_manual - set(OPTIONS) == set()
    old = {name for name, option in OPTIONS.items() if not option.newer}
    if "container-id" not in in_manual:  # Slurm 22.05
        assert old - in_manual == set()


_values = st.one_of(
    st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.text(), max_size=3)
)


@given(st.sampled_from(sorted(OPTIONS)), _values)
def test_no_value_can_become_another_option_or_line(key: str, value: object) -> None:
    try:
        argv = to_argv(validate({key: value}, WHERE))
    except OptionError as error:
        assert "\n" not in str(error)
        return
    assert len(argv) <= 1
    for word in argv:
        assert word == f"--{key}" or word.startswith(f"--{key}=")
        assert word.isprintable()


@given(st.dictionaries(st.sampled_from(sorted(OPTIONS)), _values, max_size=3))
def test_validating_twice_changes_nothing(options: dict[str, object]) -> None:
    try:
        once = validate(options, WHERE)
    except OptionError:
        return
    assert validate(once, WHERE) == once


@given(st.text())
def test_any_key_is_either_known_or_refused(key: str) -> None:
    if key not in OPTIONS:
        with pytest.raises(OptionError, match=r"is not an sbatch option|short option"):
            validate({key: "1"}, WHERE)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Requested(1, None, 0, None, None, False)),
        ({"cpus-per-task": 4, "mem": "8G"}, Requested(4, 8192, 0, None, None, False)),
        ({"cpus-per-task": 4, "mem-per-cpu": "2G"}, Requested(4, 8192, 0, None, None, False)),
        ({"gres": "gpu:a100:2"}, Requested(1, None, 2, "a100", None, False)),
        ({"gres": "gpu"}, Requested(1, None, 1, None, None, False)),
        ({"gres": "lustre:4"}, Requested(1, None, 0, None, None, False)),
        ({"gres": "none"}, Requested(1, None, 0, None, None, False)),
        ({"gpus": 2}, Requested(1, None, 2, None, None, False)),
        ({"gpus": "a100:1,v100:1"}, Requested(1, None, 2, None, None, False)),
        ({"gpus": "h100:4", "gpus-per-node": "h100:4"}, Requested(1, None, 4, "h100", None, False)),
        ({"gpus-per-task": 1}, Requested(1, None, 1, None, None, False)),
        (
            {"gpus-per-socket": "a100:1", "sockets-per-node": 2},
            Requested(1, None, 2, "a100", None, False),
        ),
        (
            {"gpus-per-node": 2, "cpus-per-gpu": 8, "mem-per-gpu": "10G"},
            Requested(16, 20480, 2, None, None, False),
        ),
        ({"mincpus": 8, "cpus-per-task": 2}, Requested(8, None, 0, None, None, False)),
        ({"mem": 0, "exclusive": True}, Requested(1, None, 0, None, None, True)),
        ({"exclusive": "user"}, Requested(1, None, 0, None, None, False)),
        ({"time": "0:90"}, Requested(1, None, 0, None, 120, False)),
        ({"time": "UNLIMITED"}, Requested(1, None, 0, None, None, False)),
    ],
)
def test_what_is_asked_of_slurm_is_read_off_the_options(
    options: dict[str, object], expected: Requested
) -> None:
    assert requested(options) == expected
