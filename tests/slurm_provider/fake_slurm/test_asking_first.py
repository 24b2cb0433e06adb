"""`ray up` asks Slurm about each node type once, before it submits anything."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from click import ClickException, Command, Context
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    TAG_RAY_NODE_KIND,
    TAG_RAY_USER_NODE_TYPE,
)

from slurm_provider import bootstrap
from slurm_provider.node_provider import SlurmNodeProvider
from tests.slurm_provider.fake_slurm.programs import SlurmPrograms

TYPES = {"head": "1", "small": "2", "large": "8"}  # CPUs
NEVER = "allocation failure: Requested node configuration is not available\n"


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    types = {
        name: {"node_config": {"cpus-per-task": cpus}, "resources": {}, "max_workers": 2}
        for name, cpus in TYPES.items()
    }
    user = {
        "cluster_name": "demo",
        "max_workers": 4,
        "provider": {
            "type": "external",
            "module": "slurm_provider.SlurmNodeProvider",
            "cluster_dir": str(tmp_path / "cluster"),
        },
        "head_node_type": "head",
        "available_node_types": types,
        **{f"{who}setup_commands": [] for who in ("", "head_", "worker_")},
    }
    return bootstrap.resolve(bootstrap.fillout(user))


def ray_up(config: dict[str, Any]) -> None:
    """As ray/autoscaler/_private/commands.py does: one provider makes the head, then is asked for
    what the head shall know."""
    provider = SlurmNodeProvider(config["provider"], "demo")
    if not provider.non_terminated_nodes({TAG_RAY_NODE_KIND: NODE_KIND_HEAD}):
        options = config["available_node_types"]["head"]["node_config"]
        tags = {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: "head"}
        provider.create_node(options, tags, 1)
    provider.prepare_for_head_node(copy.deepcopy(config))


def asked(slurm: SlurmPrograms) -> list[str]:
    """The CPUs of each sbatch that only asks, which tell the types apart."""
    calls = [call["argv"] for call in slurm.calls("sbatch") if "--test-only" in call["argv"]]
    prefix = "--cpus-per-task="
    return sorted(w.removeprefix(prefix) for argv in calls for w in argv if w.startswith(prefix))


def test_a_new_cluster_asks_once_for_each_type_and_submits_once(
    slurm: SlurmPrograms, config: dict[str, Any]
) -> None:
    ray_up(config)
    assert asked(slurm) == sorted(TYPES.values())
    assert len(slurm.calls("sbatch")) == len(TYPES) + 1 and len(slurm.jobs) == 1


def test_a_cluster_that_runs_is_asked_about_again_with_the_types_of_now(
    slurm: SlurmPrograms, config: dict[str, Any]
) -> None:
    ray_up(config)
    config["available_node_types"]["large"]["node_config"]["cpus-per-task"] = "16"
    ray_up(config)
    assert asked(slurm) == sorted([*TYPES.values(), "1", "2", "16"])
    assert len(slurm.jobs) == 1


def test_what_can_never_run_is_said_of_each_type_and_nothing_is_submitted(
    slurm: SlurmPrograms, config: dict[str, Any]
) -> None:
    slurm.answer("sbatch", stderr=NEVER, rc=1)
    with pytest.raises(ClickException) as refused:
        ray_up(config)
    names = " and ".join(repr(name) for name in TYPES)
    assert f"node types {names}: Slurm refused it: " in refused.value.message
    assert asked(slurm) == sorted(TYPES.values()) and slurm.jobs == []


def test_a_head_is_not_ended_for_one_that_can_never_run(
    slurm: SlurmPrograms, config: dict[str, Any]
) -> None:
    ray_up(config)
    slurm.answer("sbatch", stderr=NEVER, rc=1)
    provider = SlurmNodeProvider(config["provider"], "demo")
    (head,) = provider.non_terminated_nodes({TAG_RAY_NODE_KIND: NODE_KIND_HEAD})

    with pytest.raises(ClickException, match="Slurm refused it"):
        provider.terminate_node(head)

    assert slurm.calls("scancel") == []
    slurm.tell_the_truth("sbatch")
    provider.terminate_node(head)
    assert len(slurm.calls("scancel")) == 1


def test_a_file_mount_that_does_not_exist_is_said_before_anything_is_submitted(
    slurm: SlurmPrograms, config: dict[str, Any], tmp_path: Path
) -> None:
    source = tmp_path / "data"
    config["file_mounts"] = {"/tmp/data": str(source)}
    config = bootstrap.resolve(config)
    with pytest.raises(ClickException, match=f"file_mounts: {source} does not exist"):
        ray_up(config)
    assert slurm.calls("sbatch") == []
    source.touch()
    ray_up(config)
    assert len(slurm.jobs) == 1


def test_a_file_mount_that_is_gone_is_said_by_ray_up_of_a_cluster_that_runs(
    slurm: SlurmPrograms, config: dict[str, Any], tmp_path: Path
) -> None:
    ray_up(config)
    config["file_mounts"] = {"/tmp/data": str(tmp_path / "data")}
    config = bootstrap.resolve(config)
    with (
        Context(Command("up"), info_name="up").scope(),
        pytest.raises(ClickException, match="does not exist"),
    ):
        ray_up(config)
    with Context(Command("down"), info_name="down").scope():
        SlurmNodeProvider(config["provider"], "demo")
