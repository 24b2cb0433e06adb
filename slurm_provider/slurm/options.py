"""Free-form sbatch options in, validated argv out (pure).

A node_config's keys are sbatch's own long options. Nothing a user writes can become another
option or another line: each option is one word of argv, ``--key=value``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from slurm_provider.slurm.option_table import ONLY_ONE, OPTIONS
from slurm_provider.slurm.option_values import (
    CLUSTER,
    EXTRA,
    HOST,
    LIST,
    TEXT,
    TEXT_OR_NUMBER,
    OptionValue,
)


class OptionError(ValueError):
    """An sbatch option that cannot be; ``str()`` names where, key, value and what is allowed."""

    def __init__(self, where: str, key: str, value: object, reason: str) -> None:
        self.where = where
        self.key = key
        self.value = value
        self.reason = reason
        super().__init__(f"{where}: {reason}")


def validate(options: Mapping[str, object], where: str) -> dict[str, OptionValue]:
    """The options a user wrote, checked and as text (``True`` for a bare switch).

    ``where`` begins every message (``node_config of 'gpu'``). An option set to ``false`` is left
    out, so a node type can turn off a default. Validating twice changes nothing.
    Raises OptionError for the first problem.
    """
    checked: dict[str, OptionValue] = {}
    for key, value in options.items():
        reason = _key_problem(key)
        if reason is not None:
            raise OptionError(where, str(key), value, reason)
        converted = _convert(key, value, where)
        if converted is not False:
            checked[key] = converted
    for group in _EXCLUSIVE_GROUPS:
        both = [key for key in group if key in checked]
        if len(both) > 1:
            reason = (
                f"{both[0]!r} and {both[1]!r} exclude each other; remove one, "
                "or set it to false if it comes from the defaults"
            )
            raise OptionError(where, both[1], options[both[1]], reason)
    return checked


def check_turned_off(
    options: Mapping[str, object], defaults: Mapping[str, object], where: str
) -> None:
    """Refuse a ``false`` for a text that no default sets: YAML reads an unquoted ``no`` or ``off``
    as false, and the option would be left out in silence. Raises OptionError."""
    for key, value in options.items():
        if value is False and key in OPTIONS and key not in defaults and _is_text(key):
            reason = (
                f"{key}: false leaves out a default, and provider.defaults sets none; remove it, "
                "or quote it if it is meant as text (YAML reads an unquoted no or off as false)"
            )
            raise OptionError(where, key, value, reason)


def check_provider_options(options: Mapping[str, object]) -> dict[str, OptionValue]:
    """The provider's own options, by the same rules but with every option allowed."""
    checked: dict[str, OptionValue] = {}
    for key, value in options.items():
        if key not in OPTIONS:
            raise OptionError("provider options", key, value, f"{key!r} is not an sbatch option")
        converted = _convert(key, value, "provider options")
        if converted is not False:
            checked[key] = converted
    return checked


def to_argv(options: Mapping[str, OptionValue]) -> list[str]:
    """Validated options as words for sbatch, sorted so that equal requests look equal."""
    return [
        f"--{key}" if value is True else f"--{key}={value}"
        for key, value in sorted(options.items())
    ]


def _convert(key: str, value: object, where: str) -> OptionValue:
    if value is None:
        reason = f"{key!r} has no value; give it one, or false to leave it out"
        raise OptionError(where, key, value, reason)
    if value is False:
        return "no" if key == "kill-on-invalid-dep" else False
    if isinstance(value, Mapping):
        reason = f"{key!r} is a mapping, but Slurm takes text here (for example gres: gpu:2)"
        raise OptionError(where, key, value, reason)
    try:
        return OPTIONS[key].kind.convert(value)
    except ValueError as error:
        reason = str(error)
        if key in ONLY_ONE:
            reason = f"is not allowed, only 1: {ONLY_ONE[key]}"
        raise OptionError(where, key, value, f"{key}: {_shown(value)} {reason}") from None


def _is_text(key: str) -> bool:
    return OPTIONS[key].kind in (TEXT, LIST, HOST, CLUSTER, EXTRA, TEXT_OR_NUMBER)


def _shown(value: object) -> str:
    """As in YAML, and short enough to be read."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _key_problem(key: object) -> str | None:
    if not isinstance(key, str):
        return (
            f"{key!r} is not an sbatch option; keys are long option names such as 'partition' "
            "(YAML reads an unquoted on, yes or 010 as something else than text)"
        )
    if len(key) > _SHOWN or not key.isprintable():
        return f"{_shown(key)} is not an sbatch option; see `man sbatch` for the long options"
    option = OPTIONS.get(key)
    if option is not None:
        if option.reason is None:
            return None
        return f"{key!r} belongs to the provider: {option.reason}"
    name = key.lstrip("-")
    if len(name) == 1 and name in _LONG_NAMES:
        return f"{key!r} is a short option; use its long name {_LONG_NAMES[name]!r}"
    spelled = name.replace("_", "-").lower()
    if spelled in OPTIONS:
        return f"{key!r} is not an sbatch option; did you mean {spelled!r}?"
    close = difflib.get_close_matches(spelled, OPTIONS, n=1, cutoff=0.6)
    hint = f"closest: {close[0]!r}" if close else "see `man sbatch` for the long options"
    return f"{key!r} is not an sbatch option; {hint}"


_SHOWN = 80
_LONG_NAMES = {option.short: option.name for option in OPTIONS.values() if option.short}
# sbatch: "--mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive" and likewise for CPUs.
_EXCLUSIVE_GROUPS = (
    ("mem", "mem-per-cpu", "mem-per-gpu"),
    ("cpus-per-task", "cpus-per-gpu"),
)
