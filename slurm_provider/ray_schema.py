"""Ray's own check of a cluster YAML, ended as every other refusal: by one message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slurm_provider.errors import ConfigError


def check_ray_schema(config: Mapping[str, Any]) -> None:
    """Raises ConfigError with the place and Ray's words for what Ray would refuse by a traceback:
    a key that it does not know, text for a number."""
    from jsonschema import ValidationError  # type: ignore[import-untyped]
    from ray.autoscaler._private.util import validate_config

    try:
        validate_config(config)
    except ValidationError as error:
        raise ConfigError(placed(error)) from None
    except ValueError as error:
        raise ConfigError(str(error)) from None


def placed(error: Any) -> str:
    """jsonschema's words, with the place in the YAML."""
    place = ".".join(str(part) for part in error.absolute_path)
    return f"{f'{place}: ' if place else ''}{error.message}"
