"""What `dg` knows of this package: components for projects that describe their assets in YAML."""

from __future__ import annotations

from dagster_glue.components.payload import RayPayloadComponent

__all__ = ["RayPayloadComponent"]
