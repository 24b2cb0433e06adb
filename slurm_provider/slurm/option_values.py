"""What a value of an sbatch option may look like: YAML in, one word of argv out.

Each ``ValueKind`` turns what YAML gave into the text after ``--key=``, ``True`` for a bare flag,
or raises ValueError with a reason that ends the sentence "KEY: VALUE ...". ``False`` never gets
here: for every option it means "leave this one out".

A value reaches Slurm as the user wrote it or not at all. Text must be text to YAML too, which
reads 0815 or 1:30 as another number. A number must be one that sbatch does not cut off: it takes
4294967297 CPUs for 1 (22.05).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from slurm_provider.slurm.quantities import (
    GRES_FORMS,
    MEMORY_FORMS,
    TIME_FORMS,
    parse_gres,
    parse_memory_mb,
    parse_time_s,
)

OptionValue = str | bool

# Slurm keeps most counts in 16 bits and reserves the last values.
MOST = 65_533
# Minutes and megabytes are kept in 32 bits (memory of a job in more).
_MOST_MINUTES = 2**31 - 1
_MOST_MB = 2**32 - 3


@dataclass(frozen=True)
class ValueKind:
    """A kind of value: ``takes`` is for the reference page, ``convert`` is the check."""

    takes: str
    convert: Callable[[object], OptionValue]


def choice(*allowed: str, bare: bool = False) -> ValueKind:
    """One of a few words; ``bare`` also allows the option without a value (``true``)."""

    def convert(value: object) -> OptionValue:
        if isinstance(value, bool):
            if bare:
                return True
            if "yes" in allowed:  # YAML reads an unquoted yes as true
                return "yes"
            raise ValueError(f"needs a value: {' or '.join(allowed)}")
        text = _text_or_number(value)
        if text not in allowed:
            also = "true or " if bare else ""
            raise ValueError(f"is not allowed; use {also}{', '.join(allowed)}")
        return text

    return ValueKind(("nothing or " if bare else "") + " | ".join(allowed), convert)


def whole_number(minimum: int, maximum: int = MOST, *, bare: bool = False) -> ValueKind:
    """An integer from ``minimum`` to ``maximum``; ``bare`` also allows the option without a
    value."""

    def convert(value: object) -> OptionValue:
        if value is True and bare:
            return True
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(f"is not a whole number from {minimum}")
        if isinstance(value, str) and not _INTEGER.fullmatch(value):
            raise ValueError(f"is not a whole number from {minimum}")
        if not minimum <= int(value) <= maximum:
            raise ValueError(f"is not a whole number from {minimum} to {maximum}")
        return str(value)

    return ValueKind(("nothing or " if bare else "") + f"whole number from {minimum}", convert)


def _flag(value: object) -> OptionValue:
    if value is True:
        return True
    raise ValueError("is not a value this option takes; it is a switch: write true or false")


def _text(value: object) -> str:
    if value is True:
        raise ValueError(
            "needs a value; this option is not a switch (YAML reads an unquoted yes or on as "
            "true: quote it if it is meant as text)"
        )
    if isinstance(value, int | float):
        raise ValueError(
            "is a number to YAML, which also reads an unquoted 010 as 8, 1:30 as 90 and 1.10 as "
            f'1.1; quote what is meant as text: "{value}"'
        )
    if isinstance(value, date):
        raise ValueError("is a date to YAML; quote what is meant as text")
    if isinstance(value, list | tuple):
        raise ValueError('is a list, but Slurm takes one text here (for example "a&b")')
    if not isinstance(value, str):
        raise ValueError("is not text")
    if not value or value != value.strip():
        raise ValueError("is empty or begins or ends with a space")
    # A line break could end a line of a script, a NUL an argument; no option needs either.
    if not value.isprintable():
        raise ValueError("contains a line break or another character that cannot be printed")
    return value


def _text_or_number(value: object) -> str:
    return _text(str(value) if isinstance(value, int) and value is not True else value)


def _comma_list(value: object) -> str:
    if not isinstance(value, list | tuple):
        return _text(value)
    items = [_text(item) for item in value]
    if not items or any("," in item and "[" not in item for item in items):
        raise ValueError("is not a list of single items")
    return ",".join(items)


def _one_host(value: object) -> str:
    text = _comma_list(value)
    if any(sign in text for sign in ",[/ "):
        raise ValueError(
            "names more than one host (or a file), and Slurm gives a job all of them; a Ray node "
            "is one job on one host: name one host, or use constraint or exclude"
        )
    return text


def _one_cluster(value: object) -> str:
    text = _text(value)
    if "," in text or text == "all":
        raise ValueError("is more than one cluster; the nodes must reach each other: name one")
    return text


def _memory(value: object) -> str:
    try:
        text = str(value) if isinstance(value, float) else _text_or_number(value)
        memory_mb = parse_memory_mb(text)
    except ValueError:
        raise ValueError(f"is not a memory size; allowed: {MEMORY_FORMS}") from None
    if memory_mb > _MOST_MB:
        raise ValueError("is more memory than Slurm can count")
    return text


def _duration(value: object) -> str:
    # YAML 1.1 reads an unquoted 1:00:00 as the number 3600, and a number is minutes for Slurm.
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(
            "is a number to YAML, which also reads an unquoted 1:00:00 as 3600; "
            'quote it: "01:00:00", or "60" for minutes'
        )
    text = _text(value)
    try:
        time_s = parse_time_s(text)
    except ValueError:
        raise ValueError(f"is not a time span; allowed: {TIME_FORMS}") from None
    if time_s is not None and time_s > _MOST_MINUTES * 60:
        raise ValueError("is a longer time than Slurm can count; for no limit write UNLIMITED")
    return text


def _moment(value: object) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        raise ValueError("has a time zone, which Slurm does not take; quote the local time")
    if isinstance(value, datetime) and value.microsecond:
        raise ValueError("has fractions of a second, which Slurm does not take")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(
            'is a number to YAML, which also reads an unquoted 16:00 as 960; quote it: "16:00"'
        )
    return _text(value)


def _gres(value: object) -> str:
    text = _comma_list(value)
    try:
        # sbatch takes less than parse_gres reads: no "gres/gpu=1", no "(S:0-1)".
        if not _GRES.fullmatch(text):
            raise ValueError
        parse_gres(text)
    except ValueError:
        raise ValueError(f"is not a list of generic resources; allowed: {GRES_FORMS}") from None
    return text


def _gpus(value: object) -> str:
    text = _text_or_number(value) if isinstance(value, int) else _comma_list(value)
    if not _GPUS.fullmatch(text):
        raise ValueError('is not a number of GPUs; allowed: "2", "a100:2" or "a100:1,v100:1"')
    return text


def _priority(value: object) -> str:
    text = _text_or_number(value)
    if not _INTEGER.fullmatch(text) and text.upper() != "TOP":
        raise ValueError("is not a number or TOP, and sbatch would take it for 0")
    return text


def _extra(value: object) -> str:
    text = _text(value)
    if _SOCKETS_CORES_THREADS.fullmatch(text):
        raise ValueError(
            "is taken for --extra-node-info by a Slurm that does not know this option; use "
            "sockets-per-node, cores-per-socket and threads-per-core"
        )
    return text


FLAG = ValueKind("nothing", _flag)
TEXT = ValueKind("text", _text)
TEXT_OR_NUMBER = ValueKind("text or number", _text_or_number)
LIST = ValueKind("text or list", _comma_list)
HOST = ValueKind("one host name", _one_host)
CLUSTER = ValueKind("one Slurm cluster", _one_cluster)
COUNT = whole_number(1)
NUMBER = whole_number(0)
INTEGER_OR_BARE = whole_number(-2147483645, 2147483645, bare=True)
MEMORY = ValueKind("memory size", _memory)
DURATION = ValueKind(f"time span, quoted: {TIME_FORMS}", _duration)
MOMENT = ValueKind("moment, quoted", _moment)
GRES = ValueKind(f"gres list: {GRES_FORMS}", _gres)
GPUS = ValueKind('number of GPUs, or "type:number"', _gpus)
PRIORITY = ValueKind("number or TOP", _priority)
EXTRA = ValueKind("text", _extra)

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_SOCKETS_CORES_THREADS = re.compile(r"[0-9*-]+(?::[0-9*-]+)*")
_GPUS = re.compile(r"(?:[A-Za-z0-9_.+-]+:)?[0-9]+(?:,(?:[A-Za-z0-9_.+-]+:)?[0-9]+)*")
_GRES = re.compile(r"[A-Za-z0-9_.+-]+(?:[:,][A-Za-z0-9_.+-]+)*")
