"""docs/security.md names the test that performs each attack."""

from __future__ import annotations

import re

from tests.sandbox_fixture import ROOT


def test_every_test_that_the_page_names_exists() -> None:
    table = (ROOT / "docs" / "security.md").read_text().partition("## What another user can try")[2]
    rows = [line for line in table.partition("## Ports")[0].splitlines() if line.startswith("| ")]
    named = [re.findall(r"`([\w/]+(?:\.py|/))`", row.rsplit("|", 2)[1]) for row in rows[1:]]
    assert len(named) > 15 and all(named)
    bases = (ROOT / "tests", ROOT / "tests" / "slurm_provider")
    missing = [name for names in named for name in names
               if not any((base / name).exists() for base in bases)]  # fmt: skip
    assert missing == []
