"""The example project, for real in mode local, by Dagster's own command."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_glue import ExecutionMode
from tests.dagster_glue.dagster_project import MODULE, DagsterProject

pytest.importorskip("dagster_dg_cli", reason="the extra `dev` brings it")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DagsterProject:
    return DagsterProject(tmp_path_factory.mktemp("project"))


def test_the_component_is_listed(project: DagsterProject) -> None:
    assert "dagster_glue.RayPayloadComponent" in project.dg("list", "components")


@pytest.mark.parametrize("mode", list(ExecutionMode))
def test_the_project_loads_in_each_mode_without_slurm(
    project: DagsterProject, mode: ExecutionMode
) -> None:
    said = project.dg("check", "defs", RAY_SLURM_MODE=mode.value)
    assert "All component YAML validated successfully" in said
    assert "All definitions loaded successfully" in said


def test_a_misspelt_field_is_found_by_dg_check_yaml(tmp_path: Path) -> None:
    project = DagsterProject(tmp_path)
    yaml = project.folder / MODULE / "defs" / "report" / "defs.yaml"
    yaml.write_text(yaml.read_text().replace("extra_files:", "extra_file:"))
    with pytest.raises(AssertionError, match="extra_file"):
        project.dg("check", "yaml")


def test_a_scaffolded_component_and_all_assets_materialize_in_mode_local(
    project: DagsterProject,
) -> None:
    project.dg("scaffold", "defs", "dagster_glue.RayPayloadComponent", "squares")
    project.dg("launch", "--assets", "*", "--partition", "0.1", timeout_s=240)

    assert project.metadata("squares")["total"] == 0 + 1 + 4 + 9
    assert project.metadata("dataset")["rows"] == 400
    assert project.metadata("model")["devices"] == ["cpu"]
    assert project.metadata("tuned_model")["trials"] == 4
    trial, report = project.metadata("trial"), project.metadata("report")
    assert trial["learning_rate"] == 0.1
    assert f"| trial-0.1 | {trial['loss']:.4f} |" in report["losses"]
    assert len({project.metadata(asset)["cluster_id"] for asset in ("dataset", "model")}) == 1
