"""Tables and moments for people; plain text where no terminal looks on."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import click

_NOTHING = "-"


def echo_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output.

    Piped, it is aligned text with one line per row and nothing cut off, for grep and awk.
    """
    cells = [[cell or _NOTHING for cell in row] for row in rows]
    if sys.stdout.isatty():
        _echo_rich(headers, cells)
        return
    plain = [list(headers), *([_one_line(cell) for cell in row] for row in cells)]
    widths = [max(len(row[column]) for row in plain) for column in range(len(headers))]
    for row in plain:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def moment(epoch_s: float | None, now: float | None = None) -> str:
    """A time in the reader's zone: the clock if it is today, else the day too; empty for None."""
    if epoch_s is None:
        return ""
    then, today = time.localtime(epoch_s), time.localtime(time.time() if now is None else now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    if then.tm_year == today.tm_year:
        return time.strftime("%d %b %H:%M", then)
    return time.strftime("%d %b %Y", then)


def _echo_rich(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # Loaded here: it takes longer than all the rest of a command that is piped.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headers, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    Console().print(table)


def _one_line(text: str) -> str:
    return " ".join(text.split())
