"""The first cluster YAML follows the site, and the provider accepts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from slurm_provider.cli.init import environment_prefix
from slurm_provider.cli.site_plan import plan_site
from slurm_provider.cli.site_yaml import Login, cluster_yaml, parse_login
from slurm_provider.errors import ConfigError
from slurm_provider.slurm import Accounts, Association, Gres, HostGroup, Partition, time_text

DAY_S = 86400


def _hosts(count: int = 4, cpus: int = 64, memory_mb: int = 256_000, gpus: int = 0) -> HostGroup:
    gres = (Gres("gpu", "a100", gpus),) if gpus else ()
    return HostGroup(count, "idle", cpus, memory_mb, gres, (), "n[1-4]")


def _partition(name: str, *hosts: HostGroup, **values: Any) -> Partition:
    defaults: dict[str, Any] = {
        "is_default": False,
        "is_up": True,
        "max_time_s": 7 * DAY_S,
        "default_time_s": None,
    }
    return Partition(name=name, hosts=hosts or (_hosts(),), **{**defaults, **values})


def test_workers_are_a_quarter_of_the_smallest_host_up_to_a_cap() -> None:
    plan = plan_site([_partition("p", _hosts(cpus=16, memory_mb=64_000), _hosts(cpus=64))], None)
    assert (plan.cpu.cpus, plan.cpu.memory_mb) == (4, 16_000)
    big = plan_site([_partition("p", _hosts(cpus=256, memory_mb=2_000_000))], None)
    assert (big.cpu.cpus, big.cpu.memory_mb) == (8, 32 * 1024)


def test_a_host_of_one_cpu_still_gives_a_worker() -> None:
    plan = plan_site([_partition("p", _hosts(count=1, cpus=1, memory_mb=1000))], None)
    assert (plan.cpu.cpus, plan.cpu.max_workers, plan.head.memory_mb) == (1, 1, 1000)


def test_no_memory_is_asked_for_where_slurm_was_not_told_of_any() -> None:
    plan = plan_site([_partition("p", _hosts(memory_mb=1, gpus=2))], None)
    assert plan.gpu is not None
    assert {plan.head.memory_mb, plan.cpu.memory_mb, plan.gpu.memory_mb} == {None}


def test_the_default_partition_is_for_cpu_workers_and_one_named_gpu_for_gpus() -> None:
    partitions = [
        _partition("all", _hosts(gpus=4)),
        _partition("std", is_default=True),
        _partition("gpu_long", _hosts(gpus=4)),
    ]
    plan = plan_site(partitions, None)
    assert plan.gpu is not None
    assert (plan.cpu.partition, plan.gpu.partition) == ("std", "gpu_long")
    assert (plan.gpu.gres, plan.gpu.cpus, plan.gpu.max_workers) == ("gpu:a100:1", 16, 10)


def test_partitions_that_are_down_or_only_for_minutes_are_not_chosen() -> None:
    partitions = [
        _partition("down", is_up=False, is_default=True),
        _partition("debug", max_time_s=300),
        _partition("work"),
    ]
    assert plan_site(partitions, None).cpu.partition == "work"
    assert plan_site(partitions, "debug").cpu.time_s == 300


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("nope", "there is no partition 'nope'. Partitions here: down (down)"),
        ("down", "partition 'down' is down or has no hosts"),
        (None, "no partition is up with hosts in it"),
    ],
)
def test_without_a_partition_to_use_the_site_is_described(wanted: str | None, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_site([_partition("down", is_up=False)], wanted)
    assert words in str(caught.value)


def test_account_qos_login_and_environment_are_written_where_they_belong() -> None:
    partitions = [_partition("no", _hosts(gpus=2), is_default=True)]
    accounts = Accounts(
        True,
        "physics",
        (
            Association("c", "physics", "", ("normal", "long"), "normal"),
            Association("c", "other", "", ("x",), "x"),
        ),
    )
    text = cluster_yaml(
        "demo", "here", plan_site(partitions, None), partitions, accounts, "/env/ray",
        Login("edge", "me", 2222),
    )  # fmt: skip
    config = yaml.safe_load(text)
    provider = config["provider"]
    assert provider["defaults"] == {"partition": "no", "account": "physics", "time": "04:00:00"}
    assert provider["ssh"] == {"host": "edge", "user": "me", "port": 2222}
    assert provider["environment"] == {"prefix": "/env/ray"}
    assert config["available_node_types"]["head"]["node_config"]["time"] == "1-00:00:00"
    assert "# also yours: other" in text
    assert "# yours: normal, long" in text


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("edge", Login("edge", None, None)),
        ("me@edge.org", Login("edge.org", "me", None)),
        ("me@edge:2222", Login("edge", "me", 2222)),
    ],
)
def test_a_login_is_read_with_and_without_user_and_port(text: str, login: Login) -> None:
    assert parse_login(text) == login


@pytest.mark.parametrize("text", ["", "a b", "me@", "-oProxyCommand=x", "me@edge:x"])
def test_what_is_no_login_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not of the form"):
        parse_login(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(300, "00:05:00"), (DAY_S, "1-00:00:00"), (3661, "01:01:01")]
)
def test_time_spans_are_written_as_sbatch_takes_them(seconds: int, text: str) -> None:
    assert time_text(seconds) == text


def test_only_an_environment_of_its_own_becomes_the_prefix(tmp_path: Path) -> None:
    assert environment_prefix(str(tmp_path)) is None
    ray = tmp_path / "bin" / "ray"
    ray.parent.mkdir()
    ray.write_text("")
    ray.chmod(0o755)
    assert environment_prefix(str(tmp_path)) == str(tmp_path)
    assert environment_prefix("/usr") is None


def test_the_written_file_is_accepted_by_the_other_commands(cli: Any, slurm: Any) -> None:
    shown = cli.run("init", "--cluster-name", "mine")
    assert shown.exit_code == 0, shown.output
    assert "Next: ray-slurm check slurm.yaml" in shown.output
    config = yaml.safe_load(Path("slurm.yaml").read_text())
    assert config["cluster_name"] == "mine"
    assert config["provider"]["defaults"]["account"] == "physics"
    shown = cli.run("script", "slurm.yaml", "cpu")
    assert shown.exit_code == 0, shown.output
    assert not (cli.home / ".ray-slurm" / "mine").exists()


def test_a_file_is_overwritten_only_when_told_so(cli: Any) -> None:
    Path("slurm.yaml").write_text("mine")
    shown = cli.run("init")
    assert shown.exit_code == 1
    assert "slurm.yaml exists" in shown.output
    assert Path("slurm.yaml").read_text() == "mine"
    assert cli.run("init", "--force").exit_code == 0


def test_a_node_type_that_slurm_refuses_is_told_but_the_file_is_written(
    cli: Any, slurm: Any
) -> None:
    slurm.answer("sbatch", stderr="allocation failure: Invalid qos specification", rc=1)
    shown = cli.run("init")
    assert shown.exit_code == 0
    assert "node type cpu: Slurm refused it: " in shown.output
    assert "Your QOS: normal, short" in shown.output
    assert Path("slurm.yaml").exists()
