"""The facade without a cluster; see test_compute_local.py and tests/e2e for runs.

Annotations are not postponed here: Dagster refuses a `context` that is annotated by a string.
"""

import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from typing import Any

import dagster as dg
import pytest
from dagster_shared.libraries import DagsterLibraryRegistry

from dagster_glue import (
    BashLauncher,
    ComputeResource,
    ConfigError,
    ExecutionMode,
    RayLauncher,
    SlurmQueueConfig,
    SlurmResource,
    SlurmRunConfig,
    SlurmSessionResource,
    SSHConnectionResource,
    __version__,
)

# As a code location is loaded: resources made from the environment, definitions checked.
LOADED = """
import sys
import dagster as dg
from dagster_glue import *

@dg.asset
def train(compute: ComputeResource): ...

compute = ComputeResource(
    mode="slurm-session",
    slurm=SlurmResource(
        ssh=SSHConnectionResource.from_env().with_otp_callback(lambda question: "123456"),
        queue=SlurmQueueConfig(partition=dg.EnvVar("SLURM_PARTITION"), time_limit="01:00:00"),
    ),
    default_launcher=RayLauncher(
        num_gpus_per_node=1, working_dir=".", runtime_env={"pip": ["x"]}, slurm_opts={"mem": "1G"}
    ),
    session=SlurmSessionResource(name="training"),
    packing=PackConfig(lock_file="uv.lock"),
)
dg.Definitions.validate_loadable(dg.Definitions(
    assets=[train], resources={"compute": compute, "bash": ComputeResource(mode="local")},
    sensors=[build_reap_sensor("compute")],
))
print([name for name in ("ray", "paramiko", "matplotlib", "numpy") if name in sys.modules])
"""


def test_loading_a_code_location_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_dagster_knows_the_library_and_type_checkers_its_types() -> None:
    assert DagsterLibraryRegistry.get()["dagster-glue"] == __version__
    assert resources.files("dagster_glue").joinpath("py.typed").is_file()


def test_definitions_with_variables_are_loadable_without_their_values() -> None:
    @dg.asset
    def by_parameter(compute: ComputeResource) -> None: ...

    @dg.asset(required_resource_keys={"compute"})
    def by_key(context: dg.AssetExecutionContext) -> None: ...

    compute = ComputeResource(
        mode=dg.EnvVar("THE_MODE"),
        slurm=SlurmResource(
            ssh=SSHConnectionResource(
                host=dg.EnvVar("THE_HOST"),
                port=dg.EnvVar.int("THE_PORT"),
                password=dg.EnvVar("THE_PASSWORD"),
            ),
            queue=SlurmQueueConfig(partition=dg.EnvVar("THE_PARTITION")),
        ),
        default_launcher=RayLauncher(num_cpus_per_node=dg.EnvVar.int("THE_CPUS")),
        pre_deployed_env_path=dg.EnvVar("THE_ENV"),
    )
    defs = dg.Definitions(assets=[by_parameter, by_key], resources={"compute": compute})
    dg.Definitions.validate_loadable(defs)


def test_a_run_sees_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_MODE", "slurm")
    monkeypatch.setenv("THE_CPUS", "3")
    seen: list[ComputeResource] = []

    @dg.asset(required_resource_keys={"compute"})
    def look(context: dg.AssetExecutionContext) -> None:
        seen.append(context.resources.compute)

    compute = ComputeResource(
        mode=dg.EnvVar("THE_MODE"),
        slurm=SlurmResource(),
        default_launcher=RayLauncher(num_cpus_per_node=dg.EnvVar.int("THE_CPUS")),
    )
    assert dg.materialize([look], resources={"compute": compute}).success
    assert seen[0].execution_mode is ExecutionMode.SLURM
    assert isinstance(seen[0].default_launcher, RayLauncher)
    assert seen[0].default_launcher.num_cpus_per_node == 3


@pytest.mark.parametrize("mode", ["slurm-session", "SLURM_SESSION", ExecutionMode.SLURM_SESSION])
def test_a_mode_may_be_given_as_value_name_or_member(mode: str) -> None:
    compute = ComputeResource(mode=mode, slurm=SlurmResource())
    assert compute.mode == ExecutionMode.SLURM_SESSION
    assert compute.execution_mode is ExecutionMode.SLURM_SESSION


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mode": "session"}, "use one of local, slurm, slurm-session, slurm-hetjob"),
        ({"mode": "slurm"}, r"needs slurm=SlurmResource"),
        ({"mode": "local", "default_luncher": None}, "closest: default_launcher"),
    ],
)
def test_a_facade_that_cannot_be_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ComputeResource(**values)


def test_a_session_may_bring_its_own_site() -> None:
    ComputeResource(
        mode=ExecutionMode.SLURM_SESSION, session=SlurmSessionResource(slurm=SlurmResource())
    )


def test_the_facade_is_a_pipes_client() -> None:
    compute = ComputeResource(mode="local", default_launcher=BashLauncher())
    assert isinstance(compute, dg.PipesClient)


def test_a_mistyped_argument_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="closest: slurm"):
        ComputeResource(mode="local", slum=None)


def test_the_launchpad_s_config_reaches_an_asset_and_is_checked() -> None:
    seen: list[SlurmRunConfig] = []

    @dg.asset
    def look(config: SlurmRunConfig) -> None:
        seen.append(config)

    def run(values: dict[str, Any]) -> None:
        dg.materialize([look], run_config={"ops": {"look": {"config": values}}})

    run({"force_env_push": True, "extra_files": ["a.csv"]})
    assert (seen[0].force_env_push, seen[0].extra_files) == (True, ["a.csv"])
    with pytest.raises(dg.DagsterInvalidConfigError, match="force_env_pusch"):
        run({"force_env_pusch": True})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RayLauncher(num_cpus_per_node="four"),
         "RayLauncher.num_cpus_per_node: .*valid integer.*, not 'four'"),
        (lambda: SlurmQueueConfig(time_limit=60), "SlurmQueueConfig.time_limit: .*, not 60"),
        (lambda: SlurmRunConfig(force_env_push="perhaps"), "SlurmRunConfig.force_env_push: "),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_named_with_its_field(
    make: Callable[[], object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        make()
    assert "pydantic" not in str(raised.value)


@pytest.mark.parametrize("launcher", [RayLauncher, "ray"])
def test_what_is_no_launcher_is_refused_by_what_it_is(launcher: Any) -> None:
    compute = ComputeResource(mode="local")
    with pytest.raises(dg.Failure, match=r"launcher is .*: give RayLauncher\(...\)"):
        compute.run(dg.build_asset_context(), "train.py", launcher=launcher)
