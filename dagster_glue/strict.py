"""Dagster resources and configs that swallow nothing.

Dagster's own ignore arguments they do not know, so a misspelt option is an option without effect.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any, TypeVar

import dagster as dg
from pydantic import BaseModel, ValidatorFunctionWrapHandler, WrapValidator

from slurm_provider.errors import ConfigError

_Model = TypeVar("_Model", bound=BaseModel)
_INT_ENV_VAR = type(dg.EnvVar.int("ANY"))  # Dagster does not export the class
_VARIABLES = (dg.EnvVar, _INT_ENV_VAR)


class StrictResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # its value is itself
    """A resource that refuses unknown arguments by name; raises ConfigError."""

    def __init__(self, **values: Any) -> None:
        refuse_unknown(type(self), values)
        super().__init__(**values)


class StrictConfig(dg.Config):
    """A config that refuses unknown arguments by name; raises ConfigError."""

    def __init__(self, **values: Any) -> None:
        refuse_unknown(type(self), values)
        super().__init__(**values)


def refuse_unknown(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first argument that ``model`` has no field for."""
    known = list(model.model_fields)
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"closest: {close[0]}" if close else f"known: {', '.join(known)}"
            raise ConfigError(f"{model.__name__} has no argument {name!r}; {hint}")


def resolved(model: _Model) -> _Model:
    """The same with every ``EnvVar`` replaced by its value, for code that runs outside Dagster.

    Within a run Dagster has done that already. Raises ConfigError naming the missing variable.
    """
    values = {name: _value(getattr(model, name), f"{type(model).__name__}.{name}")
              for name in type(model).model_fields}  # fmt: skip
    changed = {name: new for name, new in values.items() if new is not getattr(model, name)}
    return model.model_copy(update=changed) if changed else model


def at_least(minimum: float) -> WrapValidator:
    """For ``Annotated[int | None, at_least(1)]``: an ``EnvVar`` is judged when it has a value."""

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, _VARIABLES):
            return value
        number = handler(value)
        if number is not None and number < minimum:
            raise ValueError(f"must be at least {minimum:g}")
        return number

    return WrapValidator(check)


def has_variables(value: Any) -> bool:
    """Whether an ``EnvVar`` stands somewhere in it: then it cannot be judged yet."""
    if isinstance(value, BaseModel):
        return any(has_variables(getattr(value, name)) for name in type(value).model_fields)
    if isinstance(value, (dict, list)):
        return any(map(has_variables, value.values() if isinstance(value, dict) else value))
    return isinstance(value, _VARIABLES)


def _value(value: Any, where: str) -> Any:
    if isinstance(value, dg.EnvVar):
        return _variable(value.env_var_name, where)
    if isinstance(value, _INT_ENV_VAR):
        text = _variable(value.name, where)
        if not text.lstrip("-").isdigit():
            raise ConfigError(
                f"{where} is read from the environment variable {value.name}, which is {text!r}: "
                "not a whole number"
            )
        return int(text)
    if isinstance(value, BaseModel):
        return resolved(value)
    if isinstance(value, dict):
        new = {key: _value(item, where) for key, item in value.items()}
        return new if any(new[key] is not value[key] for key in value) else value
    if isinstance(value, list):
        items = [_value(item, where) for item in value]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def _variable(name: str, where: str) -> str:
    text = os.environ.get(name)
    if text is None:
        raise ConfigError(f"{where} is read from the environment variable {name}, which is not set")
    return text
