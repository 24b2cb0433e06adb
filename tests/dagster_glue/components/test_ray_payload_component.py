"""The component without a cluster; the example's tests run it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.testing import DefsFolderSandbox, create_defs_folder_sandbox

from dagster_glue import BashLauncher, ComputeResource, RayLauncher, RayPayloadComponent

TYPE = "dagster_glue.RayPayloadComponent"


@pytest.fixture
def project() -> Iterator[DefsFolderSandbox]:
    with create_defs_folder_sandbox() as sandbox:
        yield sandbox


def loaded(
    project: DefsFolderSandbox, **attributes: Any
) -> tuple[RayPayloadComponent, dg.Definitions]:
    """A component of these attributes, with a script `train.py` beside its YAML file."""
    folder = project.defs_folder_path / "training"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text("")
    (folder / "settings.toml").write_text("")
    given = {"payload": "train.py", "assets": [{"key": "model"}], **attributes}
    (folder / "defs.yaml").write_text(yaml.safe_dump({"type": TYPE, "attributes": given}))
    with project.load_component_and_build_defs(folder) as (component, defs):
        assert isinstance(component, RayPayloadComponent)
        return component, defs


def assets_of(defs: dg.Definitions) -> dg.AssetsDefinition:
    (made,) = defs.assets or ()
    assert isinstance(made, dg.AssetsDefinition)
    return made


def test_the_yaml_becomes_assets_and_checks_of_one_step(project: DefsFolderSandbox) -> None:
    _, defs = loaded(
        project,
        payload="train.py --epochs 10",
        assets=[{"key": "a/model", "deps": ["data"], "owners": ["team:ml"]}, {"key": "report"}],
        checks=[{"name": "converged", "asset": "a/model"}],
        op_tags={"kind": "big"},
        pool="gpus",
        max_retries=2,
    )
    made = assets_of(defs)
    assert made.keys == {dg.AssetKey(["a", "model"]), dg.AssetKey("report")}
    assert made.specs_by_key[dg.AssetKey(["a", "model"])].owners == ["team:ml"]
    assert made.asset_deps[dg.AssetKey(["a", "model"])] == {dg.AssetKey("data")}
    assert [spec.name for spec in made.check_specs] == ["converged"]
    op = made.op
    assert (op.name, op.tags, op.pool) == ("a__model", {"kind": "big"}, "gpus")
    assert op.retry_policy == dg.RetryPolicy(2)
    assert made.required_resource_keys >= {"compute"}


def test_a_launcher_has_the_fields_of_the_class_and_templates(
    project: DefsFolderSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_CPUS", "3")
    component, _ = loaded(
        project,
        launcher={"num_cpus_per_node": "{{ env.THE_CPUS }}", "runtime_env": {"pip": ["x"]}},
    )
    assert isinstance(component.launcher, RayLauncher)
    assert component.launcher.num_cpus_per_node == 3
    assert component.launcher.runtime_env == {"pip": ["x"]}


def test_a_bash_launcher_is_named_by_its_type(project: DefsFolderSandbox) -> None:
    component, _ = loaded(project, launcher={"type": "bash"})
    assert isinstance(component.launcher, BashLauncher)


def test_a_compute_section_makes_the_whole_resource(project: DefsFolderSandbox) -> None:
    component, defs = loaded(
        project,
        compute={
            "mode": "slurm",
            "slurm": {
                "ssh": {"host": "edge", "port": 2222},
                "queue": {"partition": "gpu", "extra_slurm_opts": {"licenses": "x"}},
            },
            "default_launcher": {"max_workers": 4},
        },
    )
    compute = component.compute
    assert isinstance(compute, ComputeResource) and compute.slurm is not None
    assert compute.slurm.ssh is not None and compute.slurm.ssh.settings().port == 2222
    assert compute.slurm.queue.options() == {"partition": "gpu", "licenses": "x"}
    assert isinstance(compute.default_launcher, RayLauncher)
    assert compute.default_launcher.max_workers == 4
    assert "compute" not in assets_of(defs).required_resource_keys
    dg.Definitions.validate_loadable(defs)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"payload": "trian.py"}, "there is no file 'trian.py'"),
        ({"extra_files": ["setings.toml"]}, r"there is no .*setings.toml"),
        ({"assets": []}, "assets"),
        ({"lancher": {}}, "lancher"),
        ({"launcher": {"num_cpus": 3}}, "num_cpus"),
        ({"launcher": {"min_workers": 3, "max_workers": 2}}, "more than max_workers 2"),
        ({"launcher": {"type": "bash", "max_workers": 2}}, "'max_workers' is of a Ray cluster"),
        ({"compute": {"mode": "slurm"}}, r"needs slurm=SlurmResource"),
        ({"compute": {"mode": "local", "slurm": {"ssh": {"host": "e", "password": "x"}}}},
         "password"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_yaml_fails_the_load_and_is_named(
    project: DefsFolderSandbox, attributes: dict[str, Any], words: str
) -> None:
    with pytest.raises(Exception) as failure:
        loaded(project, **attributes)
    assert re.search(words, "".join(traceback.format_exception(failure.value)))


def test_another_resource_under_the_key_is_refused_by_name(project: DefsFolderSandbox) -> None:
    _, defs = loaded(project)
    result = dg.materialize(
        [assets_of(defs)],
        resources={"compute": dg.ResourceDefinition.hardcoded_resource("no")},
        raise_on_error=False,
    )
    data = result.failure_data_for_node("model")
    assert data is not None and data.error is not None and data.error.cause is not None
    assert "the resource 'compute' is a str" in data.error.cause.message


@pytest.mark.parametrize("scaffold_format", ["yaml", "python"])
def test_what_is_scaffolded_loads_as_it_is(
    project: DefsFolderSandbox, scaffold_format: Any
) -> None:
    folder = project.scaffold_component(
        RayPayloadComponent, defs_path="new_one", scaffold_format=scaffold_format
    )
    with project.load_component_and_build_defs(folder) as (_, defs):
        assert "compute" not in assets_of(defs).required_resource_keys
        dg.Definitions.validate_loadable(defs)
    assert (folder / "payload.py").is_file()


def test_a_scaffolded_component_uses_the_named_resource(project: DefsFolderSandbox) -> None:
    folder: Path = project.scaffold_component(
        RayPayloadComponent, defs_path="new_one", scaffold_params={"resource_key": "cluster"}
    )
    with project.load_component_and_build_defs(folder) as (_, defs):
        assert assets_of(defs).required_resource_keys >= {"cluster"}
