from __future__ import annotations

import pytest

from slurm_provider.slurm import Association, Gres, SlurmOutputError
from slurm_provider.slurm.site import (
    parse_accounts,
    parse_config,
    parse_lifting_qos,
    parse_partitions,
)
from tests.slurm_provider.slurm.conftest import records

CONFIG = """Configuration data as of 2026-11-23T00:06:39
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = lab
KillWait                = 30 sec
MaxArraySize            = 1001
MinJobAge               = 300 sec
PowerPlugin             =
SchedulerParameters     = batch_sched_delay=0,sched_min_interval=0
SelectType              = select/cons_tres
SLURM_VERSION           = 22.05.8

Slurmctld(primary) at vm is UP
"""
SINFO_HEADER = [
    "PARTITION",
    "AVAIL",
    "TIMELIMIT",
    "DEFAULTTIME",
    "NODES",
    "STATE",
    "CPUS",
    "MEMORY",
    "GRES",
    "AVAIL_FEATURES",
    "NODELIST",
]
# As printed by Slurm 22.05.8.
SINFO_ROWS = (
    ["debug*", "up", "infinite", "n/a", "1", "mixed", "4", "6000", "gpu:2", "(null)", "n2"],
    ["debug*", "up", "infinite", "n/a", "1", "idle", "4", "6000", "gpu:a100:2", "big,ib", "n1"],
    ["short", "down", "10:00", "5:00", "1", "idle*", "4", "6000", "(null)", "(null)", "n1"],
    ["empty", "up", "1-00:00:00", "n/a", "0", "n/a", "0", "0", "(null)", "(null)", ""],
)


def test_the_configuration_is_read() -> None:
    config = parse_config(CONFIG)
    assert (config.cluster_name, config.version) == ("lab", "22.05.8")
    assert (config.max_array_size, config.min_job_age_s, config.kill_wait_s) == (1001, 300, 30)
    assert config.accounting
    assert config.values["SchedulerParameters"] == "batch_sched_delay=0,sched_min_interval=0"


def test_a_site_without_accounting_is_recognised() -> None:
    assert not parse_config(CONFIG.replace("slurmdbd", "none")).accounting


def test_a_configuration_without_its_essentials_is_an_error() -> None:
    with pytest.raises(SlurmOutputError, match="ClusterName"):
        parse_config("slurm_load_ctl_conf error\n")


@pytest.mark.parametrize("above", ["", "CLUSTER: lab\n"])
def test_partitions_are_gathered_from_their_groups_of_hosts(above: str) -> None:
    debug, short, empty = parse_partitions(above + records(SINFO_HEADER, *SINFO_ROWS))
    assert (debug.name, debug.is_default, debug.is_up) == ("debug", True, True)
    assert (debug.max_time_s, debug.default_time_s, debug.host_count) == (None, None, 2)
    assert debug.hosts[1].gres == (Gres("gpu", "a100", 2),)
    assert debug.hosts[1].features == ("big", "ib")
    assert (short.is_up, short.max_time_s, short.default_time_s) == (False, 600, 300)
    assert empty.hosts == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sinfo: odd\n",
        records(*SINFO_ROWS),
        records(SINFO_HEADER, ["x"]),
        records(SINFO_HEADER)[:-1],
    ],
)
def test_an_unreadable_partition_listing_is_an_error(text: str) -> None:
    with pytest.raises(SlurmOutputError, match="sinfo"):
        parse_partitions(text)


def test_accounts_are_read_with_their_qos() -> None:
    accounts = parse_accounts("lab|acc|acc||normal,tiny|normal\nlab|acc|other|gpu||\n")
    assert accounts.known
    assert accounts.default_account == "acc"
    assert accounts.associations == (
        Association("lab", "acc", "", ("normal", "tiny"), "normal"),
        Association("lab", "other", "gpu", (), ""),
    )


def test_a_user_without_accounts_is_known_to_have_none() -> None:
    accounts = parse_accounts("")
    assert accounts.known
    assert accounts.associations == ()


def test_a_qos_lifts_time_limits_of_partitions_by_its_flag() -> None:
    text = "normal|\nvip|DenyOnLimit,PartitionTimeLimit\nmin|PartitionMinNodes\n"
    assert parse_lifting_qos(text) == ["vip"]


@pytest.mark.parametrize(
    ("size", "parameters", "tasks"),
    [
        ("1001", "(null)", 1000),
        ("0", "(null)", 0),
        ("1001", "max_array_tasks=50,bf_continue", 50),
        ("101", "bf_continue,max_array_tasks=500", 100),
        ("1001", "max_array_tasks=", 1000),
    ],
)
def test_an_array_may_have_so_many_tasks(size: str, parameters: str, tasks: int) -> None:
    text = f"ClusterName = a\nSLURM_VERSION = 22.05.8\nMaxArraySize = {size}\n"
    config = parse_config(text + f"SchedulerParameters     = {parameters}\n")
    assert config.max_array_tasks == tasks
