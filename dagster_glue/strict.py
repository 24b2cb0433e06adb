"""Dagster resources and configs that swallow nothing.

Dagster's own ignore arguments they do not know, so a misspelt option is an option without effect.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar, get_args

import dagster as dg
from pydantic import (
    AfterValidator,
    BaseModel,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic.fields import FieldInfo

from slurm_provider.errors import ConfigError

_Model = TypeVar("_Model", bound=BaseModel)
_INT_ENV_VAR = type(dg.EnvVar.int("ANY"))  # Dagster does not export the class
_VARIABLES = (dg.EnvVar, _INT_ENV_VAR)


class StrictResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # its value is itself
    """A resource that refuses unknown arguments by name; raises ConfigError."""

    def __init__(self, **values: Any) -> None:
        refuse_unknown(type(self), values)
        refuse_unreadable(type(self), values)
        _plainly(partial(super().__init__, **values), type(self))

    @field_validator("*", mode="wrap")
    @classmethod
    def _judged_with_its_value(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        return value if isinstance(value, _VARIABLES) else handler(value)


class StrictConfig(dg.Config):
    """A config that refuses unknown arguments by name; raises ConfigError."""

    def __init__(self, **values: Any) -> None:
        refuse_unknown(type(self), values)
        refuse_unreadable(type(self), values)
        _plainly(partial(super().__init__, **values), type(self))

    @field_validator("*", mode="wrap")
    @classmethod
    def _judged_with_its_value(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        return value if isinstance(value, _VARIABLES) else handler(value)


def _plainly(build: Callable[[], None], model: type[BaseModel]) -> None:
    """Raise ConfigError in place of pydantic's error, for the first value that cannot be."""
    try:
        build()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([model.__name__, *map(str, first["loc"])])
        # What is made of parts may hold a password.
        is_shown = isinstance(first["input"], str | int | float) and "password" not in where
        shown = f", not {first['input']!r}" if is_shown else ""
        raise ConfigError(f"{where}: {first['msg'].removeprefix('Value error, ')}{shown}") from None


def refuse_unknown(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first argument that ``model`` has no field for."""
    known = list(model.model_fields)
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"closest: {close[0]}" if close else f"known: {', '.join(known)}"
            raise ConfigError(f"{model.__name__} has no argument {name!r}; {hint}")


def refuse_unreadable(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    """Raise ConfigError for an ``EnvVar`` that Dagster would not replace by its value."""
    for name, value in values.items():
        if isinstance(value, BaseModel) or not has_variables(value):
            continue
        kind = model.model_fields[name].annotation
        if _mentions(kind, float):
            raise ConfigError(
                f"{model.__name__}.{name} cannot be an EnvVar: Dagster takes texts, whole numbers "
                'and booleans from variables, no fractions. Give float(os.environ["NAME"])'
            )
        if isinstance(value, dict) and _mentions(kind, Any):
            raise ConfigError(
                f"{model.__name__}.{name} cannot hold an EnvVar: Dagster replaces none in a "
                'mapping of free content. Give os.environ["NAME"]'
            )


def resolved(model: _Model) -> _Model:
    """The same with every ``EnvVar`` replaced by its value, for code that runs outside Dagster.

    Within a run Dagster has done that already. Raises ConfigError naming the missing variable, or
    the one whose value cannot be.
    """
    changed = {}
    for name, field in type(model).model_fields.items():
        given, where = getattr(model, name), f"{type(model).__name__}.{name}"
        value = _value(given, where)
        if isinstance(given, _VARIABLES):
            value = _judged(value, field, f"{where} is read from the environment variable "
                            f"{_name_of(given)}, which is {value!r}")  # fmt: skip
        if value is not given:
            changed[name] = value
    return model.model_copy(update=changed) if changed else model


def at_least(minimum: float) -> AfterValidator:
    """For ``Annotated[int | None, at_least(1)]``."""

    def check(number: Any) -> Any:
        if number is not None and number < minimum:
            raise ValueError(f"must be at least {minimum:g}")
        return number

    return AfterValidator(check)


def has_variables(value: Any) -> bool:
    """Whether an ``EnvVar`` stands somewhere in it: then it cannot be judged yet."""
    if isinstance(value, BaseModel):
        return any(has_variables(getattr(value, name)) for name in type(value).model_fields)
    if isinstance(value, (dict, list)):
        return any(map(has_variables, value.values() if isinstance(value, dict) else value))
    return isinstance(value, _VARIABLES)


def _value(value: Any, where: str) -> Any:
    if isinstance(value, _VARIABLES):
        return _variable(_name_of(value), where)
    if isinstance(value, BaseModel):
        return resolved(value)
    if isinstance(value, list):
        items = [_value(item, where) for item in value]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def _judged(text: str, field: FieldInfo, where: str) -> Any:
    """What a field makes of a text. Raises ConfigError."""
    kind: Any = field.annotation
    for check in field.metadata:
        kind = Annotated[kind, check]
    try:
        return TypeAdapter(kind).validate_python(text)
    except ValidationError as error:
        raise ConfigError(f"{where}: {error.errors()[0]['msg']}") from None


def _name_of(variable: Any) -> str:
    return str(variable.env_var_name if isinstance(variable, dg.EnvVar) else variable.name)


def _mentions(annotation: Any, kind: Any) -> bool:
    return annotation is kind or any(_mentions(each, kind) for each in get_args(annotation))


def _variable(name: str, where: str) -> str:
    text = os.environ.get(name)
    if text is None:
        raise ConfigError(f"{where} is read from the environment variable {name}, which is not set")
    return text
