"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])


def config_argument(function: _Function) -> _Function:
    """The CONFIG argument, and the option by which Ray's commands override the cluster's name."""
    named = cluster_name_option(function)
    return click.argument("config_path", metavar="CONFIG", type=click.Path())(named)


def cluster_name_option(function: _Function) -> _Function:
    return click.option(
        "-n", "--cluster-name", metavar="NAME", help="Override the cluster_name of CONFIG."
    )(function)
