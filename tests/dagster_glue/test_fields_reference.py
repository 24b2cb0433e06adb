from __future__ import annotations

from pathlib import Path

from dagster_glue import SSHConnectionResource
from dagster_glue.reference import fields_table, with_tables

TABLES = (
    "ComputeResource",
    "PackConfig",
    "RayLauncher",
    "RayPayloadComponent",
    "SSHConnectionResource",
    "SlurmQueueConfig",
    "SlurmResource",
    "SlurmRunConfig",
    "SlurmSessionResource",
)
PAGE = Path(__file__).parents[2] / "docs" / "dagster.md"


def test_the_tables_of_the_page_are_those_of_the_code() -> None:
    text = PAGE.read_text()
    for name in TABLES:
        assert f"<!-- fields {name} -->" in text
    assert with_tables(text) == text, "run `python -m dagster_glue.reference`"


def test_every_field_of_the_page_has_a_meaning() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.endswith("|  |")] == []


def test_a_field_s_line_says_its_type_default_and_meaning() -> None:
    table = fields_table(SSHConnectionResource).splitlines()
    assert table[2].startswith("| `host` | `str` | required | Edge node: ")
    assert any(line.startswith("| `port` | `int` |  | SSH port;") for line in table)
    assert any(line.startswith("| `host_key_policy` | `str` | `'strict'` |") for line in table)
