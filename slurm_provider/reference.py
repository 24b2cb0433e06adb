"""The tables of the README, from the code that validates: ``python -m slurm_provider.reference``
rewrites them between their marks."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from slurm_provider.config import markdown_table
from slurm_provider.slurm import OPTIONS


def node_config_table() -> str:
    """sbatch's options that a node type may set."""
    lines = ["| key | value | meaning |", "|---|---|---|"]
    for option in sorted(OPTIONS.values(), key=lambda option: option.name):
        if option.owner == "user":
            newer = " (newer than Slurm 22.05)" if option.newer else ""
            takes, meaning = _cell(option.kind.takes), _cell(option.help) + newer
            lines.append(f"| `{option.name}` | {takes} | {meaning} |")
    return "\n".join(lines)


def refused_table() -> str:
    """sbatch's options that belong to the provider, and why."""
    lines = ["| key | why not |", "|---|---|"]
    for option in sorted(OPTIONS.values(), key=lambda option: option.name):
        if option.reason is not None:
            lines.append(f"| `{option.name}` | {_cell(option.reason)} |")
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """``text`` with what is between ``<!-- table NAME -->`` and ``<!-- end -->`` made anew."""
    tables = {
        "provider": markdown_table,
        "node_config": node_config_table,
        "refused": refused_table,
    }
    return re.sub(
        r"(<!-- table (\w+) -->\n).*?(\n<!-- end -->)",
        lambda match: f"{match[1]}{tables[match[2]]()}{match[3]}",
        text,
        flags=re.DOTALL,
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    path = Path("README.md")
    if not path.exists():
        sys.exit("run this in the folder of README.md")
    path.write_text(with_tables(path.read_text()))


if __name__ == "__main__":
    main()
