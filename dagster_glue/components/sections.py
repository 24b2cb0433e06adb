"""YAML sections for resources, made from the resources' own fields: there is no second list."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import dagster as dg
from pydantic import BaseModel, Field, create_model

from dagster_glue.compute import ComputeResource
from dagster_glue.launchers import BashLauncher, Launcher, RayLauncher
from dagster_glue.strict import StrictConfig, StrictResource
from slurm_provider.errors import ConfigError

_Resource = TypeVar("_Resource", bound=BaseModel)

# A password does not belong into a file.
_NOT_IN_YAML = {"password"}


@cache
def section_of(resource: type[BaseModel]) -> type[dg.Model]:
    """The schema of a YAML section with the fields of ``resource``; a template may stand for any
    value."""
    fields: dict[str, Any] = {}
    if resource is Launcher:
        of_type = Field(default="ray", description="Which launcher this is.")
        fields["type"] = (Literal["ray", "bash"], of_type)
        return create_model("LauncherSection", __base__=section_of(RayLauncher), **fields)
    for name, field in resource.model_fields.items():
        if name not in _NOT_IN_YAML:
            nested = _resource_in(field.annotation)
            kind: Any = field.annotation if nested is None else section_of(nested)
            default = ... if field.is_required() else None
            shown = Field(default=default, description=field.description)
            fields[name] = (Union[kind, str, None], shown)  # noqa: UP007  # made at run time
    return create_model(f"{resource.__name__}Section", __base__=dg.Model, **fields)


def resolve_launcher(context: dg.ResolutionContext, section: Any) -> Launcher | None:
    """A launcher from its section. Raises ConfigError."""
    return None if section is None else _launcher(_values(context, section))


def resolve_compute(context: dg.ResolutionContext, section: Any) -> ComputeResource | None:
    """A compute resource from its section. Raises ConfigError."""
    return None if section is None else _made(ComputeResource, _values(context, section))


def _values(context: dg.ResolutionContext, section: BaseModel) -> dict[str, Any]:
    """What the section sets, templates rendered."""
    return dict(context.resolve_value(section.model_dump(exclude_unset=True)))


def _made(resource: type[_Resource], values: Mapping[str, Any]) -> _Resource:
    given: dict[str, Any] = {}
    for name, value in values.items():
        field = resource.model_fields.get(name)
        nested = None if field is None else _resource_in(field.annotation)
        if nested is None or not isinstance(value, Mapping):
            given[name] = value
        else:
            given[name] = _launcher(value) if nested is Launcher else _made(nested, value)
    return resource(**given)


def _launcher(values: Mapping[str, Any]) -> Launcher:
    fields = {name: value for name, value in values.items() if name != "type"}
    if values.get("type", "ray") == "ray":
        return _made(RayLauncher, fields)
    if fields:
        raise ConfigError(
            f"launcher: {min(fields)!r} is of a Ray cluster; a launcher of type bash is sized by "
            "the queue, or by extra_slurm_opts"
        )
    return BashLauncher()


def _resource_in(annotation: Any) -> type[BaseModel] | None:
    """The resource or config that a field holds, also an optional one."""
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, (StrictResource, StrictConfig)) else None
    if get_origin(annotation) in (Union, types.UnionType):
        found = [_resource_in(kind) for kind in get_args(annotation)]
        return next((kind for kind in found if kind is not None), None)
    return None
