from __future__ import annotations

from pathlib import Path

from slurm_provider.reference import node_config_table, with_tables

README = Path(__file__).parents[2] / "README.md"


def test_the_tables_of_the_readme_are_those_of_the_code() -> None:
    text = README.read_text()
    assert text.count("<!-- table ") == 3
    assert with_tables(text) == text, "run `python -m slurm_provider.reference`"


def test_an_option_of_the_provider_is_not_offered() -> None:
    table = node_config_table()
    assert "| `partition` |" in table
    assert "| `job-name` |" not in table
