"""The tables of docs/dagster.md, from the fields themselves: ``python -m dagster_glue.reference``
rewrites them between their marks."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import dagster_glue

_MARK = re.compile(r"(<!-- fields (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fields_table(model: type[BaseModel]) -> str:
    """One line for each field: name, type, default, meaning."""
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {_kind(field.annotation)} | {_default(field)} | {meaning} |")
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """``text`` with what is between ``<!-- fields NAME -->`` and ``<!-- end -->`` made anew."""
    return _MARK.sub(
        lambda match: f"{match[1]}{fields_table(getattr(dagster_glue, match[2]))}\n{match[3]}", text
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    # A factory makes something empty, or a resource with its own defaults.
    value = None if field.default_factory is not None else field.default
    return "" if value is None else f"`{value!r}`"


def _kind(annotation: Any) -> str:
    return " or ".join(f"`{name}`" for name in _names(annotation))


def _names(annotation: Any) -> list[str]:
    """The alternatives, without None."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _names(arguments[0])
    if origin in (Union, types.UnionType):
        return [name for kind in arguments for name in _names(kind) if kind is not type(None)]
    if origin is not None:
        inner = ", ".join(" or ".join(_names(argument)) for argument in arguments)
        return [f"{origin.__name__}[{inner}]"]
    return [getattr(annotation, "__name__", str(annotation))]


def main() -> None:
    path = Path("docs/dagster.md")
    if not path.exists():
        sys.exit("run this in the folder that has docs/dagster.md")
    path.write_text(with_tables(path.read_text()))


if __name__ == "__main__":
    main()
