"""What the documentation shows and names is there and works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

import dagster_glue

DOCS = Path(__file__).parents[2] / "docs"
# What users of dagster-slurm 1.22.0 may have in code: its exports, their fields and methods without
# those for its own use, and the environment variables that it reads.
PEER = json.loads((Path(__file__).parent / "dagster_slurm_1_22_names.json").read_text())


def blocks(language: str) -> list[str]:
    text = (DOCS / "dagster.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_python_blocks_make_what_can_be_loaded() -> None:
    ran = [block for block in blocks("python") if "dagster_glue import" in block]
    assert len(ran) >= 3
    resources = {"compute": dagster_glue.ComputeResource(mode="local")}
    for block in ran:
        names: dict[str, object] = {}
        exec(compile(block, "docs/dagster.md", "exec", dont_inherit=True), names)
        sensors = [each for each in names.values() if isinstance(each, dg.SensorDefinition)]
        made = names.get("defs", dg.Definitions(sensors=sensors, resources=resources))
        assert isinstance(made, dg.Definitions)
        dg.Definitions.validate_loadable(made)


def test_the_yaml_of_the_component_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    (yaml,) = [block for block in blocks("yaml") if "RayPayloadComponent" in block]
    monkeypatch.setenv("MAX_WORKERS", "8")
    with create_defs_folder_sandbox() as project:
        folder = project.defs_folder_path / "training"
        folder.mkdir()
        for name, text in {"train.py": "", "settings.toml": "", "defs.yaml": yaml}.items():
            (folder / name).write_text(text)
        with project.load_component_and_build_defs(folder) as (component, _):
            assert isinstance(component, dagster_glue.RayPayloadComponent)
            assert component.launcher.max_workers == 8
            assert component.assets[0].partitions_def is not None


def test_the_names_of_the_page_for_dagster_slurm_s_users_are_there() -> None:
    text = (DOCS / "from-dagster-slurm.md").read_text()
    named = set(re.findall(r"`([A-Z]\w+)\.(\w+)`", text))
    assert len(named) > 30
    missing = [
        f"{owner}.{name}"
        for owner, name in sorted(named)
        if name not in getattr(dagster_glue, owner).model_fields
        and not hasattr(getattr(dagster_glue, owner), name)
    ]
    assert missing == []


@pytest.mark.parametrize("owner", [*PEER["classes"], "others", "variables"])
def test_no_name_of_dagster_slurm_is_forgotten(owner: str) -> None:
    page = (DOCS / "from-dagster-slurm.md").read_text()
    named = page
    if PEER["classes"].get(owner):  # what it has, in its own section
        section = re.search(rf"^#+ {owner}\n(.*?)(?=^#)", page, re.DOTALL | re.MULTILINE)
        assert section is not None
        named = section[1]
    wanted = PEER["classes"].get(owner) or PEER.get(owner) or [owner]
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`]+`", named))))
    assert [name for name in wanted if name not in words] == []


def test_the_metadata_that_the_page_names_is_reported() -> None:
    page = (DOCS / "from-dagster-slurm.md").read_text()
    section = page[page.index("## Metadata") :]
    here = [line.split("|")[2] for line in section.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`((?:slurm|ray|run|cluster)_\w+)`", " ".join(here)))
    assert len(named) > 12
    code = "".join(path.read_text() for path in Path(dagster_glue.__path__[0]).rglob("*.py"))
    assert [name for name in sorted(named) if f'"{name}"' not in code] == []
