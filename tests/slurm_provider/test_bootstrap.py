"""The cluster YAML on its way through `ray up`."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurm_provider.agent.allocation import ray_memory
from slurm_provider.bootstrap import (
    HEAD_START_COMMAND,
    autoscaler_env,
    check_cached,
    fillout,
    for_head,
    resolve,
)
from slurm_provider.config import parse_provider
from slurm_provider.errors import ConfigError

Config = dict[str, Any]
CLUSTER_CONFIGS = sorted((Path(__file__).parents[2] / "cluster-configs").glob("*.yaml"))


@pytest.fixture(autouse=True)
def no_v1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_UP_enable_autoscaler_v2", raising=False)


@pytest.fixture
def config() -> Config:
    """A small configuration as Ray hands it over (``prepare_config`` done)."""
    from ray.autoscaler._private.util import prepare_config

    prepared: Config = prepare_config(
        {
            "cluster_name": "demo",
            "max_workers": 4,
            "provider": {
                "type": "external",
                "module": "slurm_provider.SlurmNodeProvider",
                "defaults": {"partition": "compute", "time": "01:00:00"},
            },
            "head_node_type": "head",
            "available_node_types": {
                "head": {"node_config": {"mem": "2G"}, "resources": {"CPU": 0}},
                "gpu": {
                    "node_config": {"cpus-per-task": 4, "mem": "8G", "gres": "gpu:a100:2"},
                    "resources": {},
                    "max_workers": 4,
                },
            },
            "setup_commands": ["echo all"],
            "head_setup_commands": [],
            "worker_setup_commands": ["echo worker"],
        }
    )
    return prepared


@pytest.mark.parametrize("path", CLUSTER_CONFIGS, ids=lambda path: path.stem)
def test_ray_accepts_the_configurations_of_the_repository_at_every_step(path: Path) -> None:
    """The order of steps of ray/autoscaler/_private/commands.py, _bootstrap_config."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    filled = fillout(prepare_config(yaml.safe_load(path.read_text())))
    validate_config(filled)
    resolved = resolve(filled)
    validate_config(resolved)
    on_head = json.loads(json.dumps(for_head(resolved)))
    validate_config(prepare_config(on_head))  # as autoscaler v2 reads it on the head


def test_autoscaler_v2_reads_the_result(config: Config) -> None:
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    read = AutoscalingConfig(for_head(resolve(fillout(config))), skip_content_hash=True)
    types = read.get_node_type_configs()
    assert types["gpu"].resources["GPU"] == 2
    assert read.disable_node_updaters()


@pytest.mark.parametrize("function", [fillout, resolve, for_head])
def test_the_input_is_not_changed(config: Config, function: Callable[[Config], Config]) -> None:
    before = copy.deepcopy(config)
    function(config)
    assert config == before


def test_filling_in_twice_is_filling_in_once(config: Config) -> None:
    assert fillout(fillout(config)) == fillout(config)


def test_resolving_twice_is_resolving_once(config: Config) -> None:
    once = resolve(fillout(config))
    assert resolve(once) == once
    assert resolve(fillout(once)) == once


def test_two_runs_give_the_same(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve(fillout(config))
    monkeypatch.setenv("HOME", "/somewhere/else")
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.chdir("/")
    assert resolve(fillout(config)) == first


def test_the_result_survives_rays_cache_file(config: Config) -> None:
    resolved = resolve(fillout(config))
    assert json.loads(json.dumps(resolved)) == resolved


def test_resources_are_filled_in_and_the_users_remembered(config: Config) -> None:
    resolved = resolve(fillout(config))
    types = resolved["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "memory": ray_memory(2048)[0]}
    assert types["gpu"]["resources"] == {
        "CPU": 4,
        "GPU": 2,
        "memory": ray_memory(8192)[0],
        "accelerator_type:A100": 1,
    }
    assert resolved["provider"]["_given_resources"] == {"head": {"CPU": 0}, "gpu": {}}


def test_defaults_reach_every_node_type(config: Config) -> None:
    for section in resolve(fillout(config))["available_node_types"].values():
        assert section["node_config"]["partition"] == "compute"
        assert section["node_config"]["time"] == "01:00:00"


def test_setup_commands_travel_to_the_agents_once(config: Config) -> None:
    config["available_node_types"]["gpu"]["worker_setup_commands"] = ["echo gpu"]
    config["file_mounts"] = {"/data": "/tmp/b", "/code": "/tmp/a"}
    resolved = resolve(fillout(config))
    assert resolved["provider"]["disable_node_updaters"] is True
    nodes = resolved["provider"]["_nodes"]
    assert nodes["setup_commands"] == {"head": ["echo all", "echo worker"], "gpu": ["echo gpu"]}
    assert nodes["file_mounts"] == ["/code", "/data"]


def test_what_the_user_left_out_gets_slurms_defaults(config: Config) -> None:
    resolved = resolve(fillout(config))
    assert resolved["head_start_ray_commands"] == [HEAD_START_COMMAND]
    assert resolved["upscaling_speed"] >= 100
    assert resolved["idle_timeout_minutes"] == 5


def test_what_the_user_wrote_stays(config: Config) -> None:
    config.update(
        head_start_ray_commands=["ray start --head --num-cpus=1"],
        upscaling_speed=2,
        idle_timeout_minutes=30,
    )
    resolved = resolve(fillout(config))
    assert resolved["head_start_ray_commands"] == ["ray start --head --num-cpus=1"]
    assert (resolved["upscaling_speed"], resolved["idle_timeout_minutes"]) == (2, 30)


def refusal(config: Config) -> str:
    with pytest.raises(ConfigError) as refused:
        resolve(fillout(config))
    return str(refused.value)


def test_docker_is_refused_with_the_way_out(config: Config) -> None:
    config["docker"] = {"image": "rayproject/ray", "container_name": "ray"}
    assert "provider.environment" in refusal(config)


def test_synced_files_are_refused_with_the_way_out(config: Config) -> None:
    config["cluster_synced_files"] = ["/data"]
    assert "use file_mounts" in refusal(config)


def test_autoscaler_v1_is_refused_with_the_reason(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_UP_enable_autoscaler_v2", "0")
    message = refusal(config)
    assert "RAY_UP_enable_autoscaler_v2=0" in message and "Unset the variable" in message


@pytest.mark.parametrize("name", ["my cluster", "a:b", "$(reboot)", "x" * 64, ""])
def test_a_cluster_name_that_cannot_travel_is_refused(config: Config, name: str) -> None:
    config["cluster_name"] = name
    message = refusal(config)
    assert f"cluster_name {name!r}" in message and "use letters, digits" in message


def test_a_node_types_name_that_cannot_travel_is_refused(config: Config) -> None:
    types = config["available_node_types"]
    types["gpu node"] = types.pop("gpu")
    assert "'gpu node'" in refusal(config)


def test_a_bad_option_is_refused_by_resolve_and_not_by_fillout(config: Config) -> None:
    # Ray turns an exception of fillout into a warning and goes on.
    config["available_node_types"]["gpu"]["node_config"]["partion"] = "x"
    assert fillout(config)["available_node_types"]["gpu"]["resources"] == {}
    assert "closest: 'partition'" in refusal(config)


@pytest.mark.parametrize("key", ["resources", "node_config", "labels"])
def test_a_number_in_place_of_a_mapping_is_refused_by_name(config: Config, key: str) -> None:
    config["available_node_types"]["gpu"][key] = 4
    assert f"{key} of 'gpu' must be a mapping, not 4" in refusal(config)


@pytest.mark.parametrize(("change", "words"), [
    (lambda c: c["available_node_types"]["gpu"].update(min_worker=1), "'min_worker'"),
    (lambda c: c["available_node_types"]["gpu"].update(node_confg={}), "'node_confg'"),
    (lambda c: c["available_node_types"]["gpu"].update(resources=4), "gpu.resources: 4 is not"),
    (lambda c: c.update(idle_timeout_minute=1), "'idle_timeout_minute'"),
    (lambda c: c.update(max_workers="two"), "max_workers: 'two' is not of type 'integer'"),
    (lambda c: c.update(head_node_type="haed"), "`head_node_type` must be one of"),
], ids=["min_worker", "node_confg", "resources", "idle_timeout_minute", "two", "head"])  # fmt: skip
def test_what_ray_itself_refuses_ends_ray_up_with_one_message(
    config: Config, change: Callable[[Config], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from slurm_provider.node_provider import SlurmNodeProvider

    change(config)
    # Not an exception as others: Ray turns those into a warning.
    with pytest.raises(SystemExit):
        SlurmNodeProvider.fillout_available_node_types_resources(config)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ") and words in line


def test_a_bad_provider_key_is_refused(config: Config) -> None:
    config["provider"]["cluster_dirs"] = "/x"
    assert "provider.cluster_dirs" in refusal(config)


def test_more_than_slurm_is_asked_for_is_refused(config: Config) -> None:
    config["available_node_types"]["gpu"]["resources"] = {"GPU": 8}
    assert "GPU 8 is more than Slurm is asked for" in refusal(config)


def test_a_head_on_the_edge_node_asks_slurm_for_nothing(config: Config) -> None:
    config["provider"]["head_placement"] = "edge"
    assert "head_placement: edge" in refusal(config)
    config["available_node_types"]["head"]["node_config"] = {}
    resolve(fillout(config))


def test_the_configuration_holds_no_secret_and_no_home(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "verysecret")
    monkeypatch.setenv("HOME", "/home/verysecret")
    config["provider"]["cluster_dir"] = "~/clusters/demo"
    config["provider"]["environment"] = {"prefix": "~/venv"}
    text = json.dumps(for_head(resolve(fillout(config))))
    assert "verysecret" not in text
    assert os.path.expanduser("~") not in text
    assert "~/clusters/demo" in text  # expanded where it is used


def test_the_head_reaches_slurm_in_its_own_way(config: Config) -> None:
    config["provider"].update(
        ssh={"host": "login.site.org"}, head_ssh={"host": "submit"}, _config_cache_path="/tmp/x"
    )
    provider = for_head(resolve(fillout(config)))["provider"]
    assert provider["ssh"] == {"host": "submit"}
    assert "head_ssh" not in provider and "_config_cache_path" not in provider
    assert provider["_on_head"] is True


def test_a_head_that_may_submit_uses_no_ssh(config: Config) -> None:
    config["provider"]["ssh"] = {"host": "login.site.org"}
    assert "ssh" not in for_head(resolve(fillout(config)))["provider"]


def test_rays_limits_are_integers_that_ray_knows() -> None:
    env = autoscaler_env(parse_provider({"pending_idle_timeout_s": 7, "autoscaler_interval_s": 3}))
    assert all(value.isdecimal() for value in env.values())
    assert env["RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S"] == "7"
    assert env["AUTOSCALER_UPDATE_INTERVAL_S"] == "3"
    # A queue of days: Ray must not give up on a node that waits.
    for name in ("RAY_AUTOSCALER_RECONCILE_ALLOCATE_STATUS_TIMEOUT_S",
                 "RAY_JOB_START_TIMEOUT_SECONDS"):  # fmt: skip
        assert int(env[name]) >= 7 * 24 * 3600


def test_rays_limits_are_read_by_this_ray() -> None:
    """A name that Ray does not read would be a limit that silently does not hold."""
    import ray

    folder = Path(ray.__file__).parent
    sources = "".join(
        (folder / name).read_text()
        for name in (
            "_private/ray_constants.py",
            "autoscaler/_private/constants.py",
            "autoscaler/v2/instance_manager/config.py",
            "dashboard/consts.py",
        )
    )
    # Older Ray never withdraws a pending node, so it reads no such limit.
    newer = {"RAY_AUTOSCALER_PENDING_NODE_IDLE_TIMEOUT_S"} if ray.__version__ < "2.60" else set()
    for name in autoscaler_env(parse_provider({})).keys() - newer:
        assert f'"{name}"' in sources, name


def test_a_node_type_on_another_slurm_cluster_is_refused(config: Config) -> None:
    name, section = next(iter(config["available_node_types"].items()))
    section["node_config"]["clusters"] = "other"
    message = refusal(config)
    assert repr(name) in message
    assert "'other'" in message
    assert "provider.defaults" in message


def test_a_node_type_that_leaves_the_slurm_cluster_of_the_others_is_refused(
    config: Config,
) -> None:
    config["provider"]["defaults"] = {"clusters": "lab"}
    name, section = next(iter(config["available_node_types"].items()))
    section["node_config"]["clusters"] = False
    assert f"node_config of {name!r}: clusters None" in refusal(config)


class TestStartTogether:
    """Head and first workers as one heterogeneous job."""

    @pytest.fixture
    def together(self, config: Config) -> Config:
        config["provider"]["start_together"] = True
        config["available_node_types"]["gpu"].update(min_workers=2)
        return config

    def test_the_head_s_creator_learns_how_many_workers_there_are_at_first(
        self, together: Config
    ) -> None:
        made = resolve(fillout(together))
        assert made["provider"]["_nodes"]["min_workers"] == {"gpu": 2}

    def test_the_example_is_one(self) -> None:
        from ray.autoscaler._private.util import prepare_config

        (path,) = [path for path in CLUSTER_CONFIGS if path.stem == "together"]
        example = yaml.safe_load(path.read_text())
        made = resolve(fillout(prepare_config(example)))
        assert made["provider"]["_nodes"]["min_workers"] == {"cpu": 4, "gpu": 1}

    def test_a_head_on_the_edge_node_is_no_component(self, together: Config) -> None:
        together["provider"]["head_placement"] = "edge"
        together["available_node_types"]["head"]["node_config"] = {}
        assert "remove one of the two" in refusal(together)

    def test_more_nodes_than_slurm_takes_components_are_refused(self, together: Config) -> None:
        together["max_workers"] = 128
        together["available_node_types"]["gpu"].update(min_workers=128, max_workers=128)
        assert "129 nodes" in refusal(together)

    def test_what_sbatch_would_pass_on_to_a_later_node_type_is_refused(
        self, together: Config
    ) -> None:
        del together["available_node_types"]["gpu"]["node_config"]["mem"]
        message = refusal(together)
        assert "'head' sets 'mem' and 'gpu' does not" in message and "mem-per-cpu" in message


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"max_workers": -2}, "max_workers of 'gpu': -2 is no number of nodes; 0 or more"),
        ({"min_workers": -1}, "min_workers of 'gpu': -1 is no number"),
        ({"min_workers": 3, "max_workers": 2}, "min_workers of 'gpu': 3 is more than its max_wor"),
        ({"min_workers": 5, "max_workers": 5}, "max_workers: 4 is less than all min_workers tog"),
    ],
)
def test_numbers_of_workers_that_cannot_be_kept_are_refused(
    config: Config, counts: dict[str, int], words: str
) -> None:
    config["available_node_types"]["gpu"].update(counts)
    assert words in refusal(config)


def test_an_object_store_must_leave_memory_for_the_rest(config: Config) -> None:
    config["provider"]["object_store_memory_mb"] = 2048
    assert "object_store_memory_mb: 2048 is part of a node's memory, and 'head'" in refusal(config)
    config["provider"]["object_store_memory_mb"] = 1000
    resolve(fillout(config))


def test_a_configuration_cached_by_other_code_is_removed_and_said(
    config: Config, tmp_path: Path
) -> None:
    section, cached = read_from_cache(config, tmp_path)
    check_cached(section)
    assert cached.exists()
    section["_resolved_by"] = "another"
    with pytest.raises(ConfigError, match="run the command again"):
        check_cached(section)
    assert not cached.exists()


def read_from_cache(config: Config, folder: Path) -> tuple[Config, Path]:
    """A ``provider:`` section that Ray's command took from its cache, and that file."""
    cached = folder / "ray-config-abc"
    cached.write_text("{}")
    cached.chmod(0o644)
    section: Config = resolve(fillout(config))["provider"]
    return section | {"_config_cache_path": str(cached), "_resolved_in": "another process"}, cached


def give_to_another_user(path: Path) -> str:
    if os.getuid() != 0:
        pytest.skip("giving a file away needs root")
    os.chown(path, 12345, 12345)
    return "belongs to user id 12345"


def open_to_others(path: Path) -> str:
    path.chmod(0o666)
    return "may be written by others"


def add_a_hard_link(path: Path) -> str:
    os.link(path, path.with_name("another name"))
    return "has a second name"


def replace_by_a_link(path: Path) -> str:
    path.rename(path.with_name("the content"))
    path.symlink_to(path.with_name("the content"))
    return "is not a regular file"


def replace_by_a_folder(path: Path) -> str:
    path.unlink()
    path.mkdir()
    return "is not a regular file"


def remove_after_reading(path: Path) -> str:
    path.unlink()
    return "is gone"


@pytest.mark.parametrize(
    "plant",
    [give_to_another_user, open_to_others, add_a_hard_link, replace_by_a_link,
     replace_by_a_folder, remove_after_reading],
)  # fmt: skip
@pytest.mark.parametrize("pretence", [{}, {"_on_head": True}, {"_nodes": None}])
def test_a_cache_that_another_user_may_have_written_is_refused(
    config: Config, tmp_path: Path, plant: Callable[[Path], str], pretence: Config
) -> None:
    section, cached = read_from_cache(config, tmp_path)
    why = plant(cached)
    with pytest.raises(ConfigError) as refused:
        check_cached(section | pretence)
    assert f"{cached}, and that {why}" in str(refused.value)
    assert "TMPDIR" in str(refused.value)


def test_what_lies_at_the_caches_path_does_not_matter_to_who_did_not_read_it(
    config: Config, tmp_path: Path
) -> None:
    section, cached = read_from_cache(config, tmp_path)
    replace_by_a_folder(cached)
    check_cached(section | {"_resolved_in": resolve(config)["provider"]["_resolved_in"]})
    assert "_resolved_in" not in for_head(resolve(config))["provider"]


def test_a_raw_configuration_is_nobodys_cache(config: Config) -> None:
    check_cached(config["provider"])
