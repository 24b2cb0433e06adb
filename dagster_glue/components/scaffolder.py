"""``dg scaffold defs dagster_glue.RayPayloadComponent``: a payload that runs as it is."""

from __future__ import annotations

import re
from typing import Any

import dagster as dg
from pydantic import BaseModel, Field

_SCRIPT = '''\
"""Runs as a Ray job: here in mode local, on Slurm otherwise."""

import ray
from dagster_pipes import open_dagster_pipes


@ray.remote
def square(number: int) -> int:
    return number * number


if __name__ == "__main__":
    with open_dagster_pipes() as pipes:
        ray.init(address="auto")
        total = sum(ray.get([square.remote(number) for number in range(4)]))
        pipes.report_asset_materialization(metadata={"total": total})
'''

_PYTHON = """\
import dagster as dg
from {module} import {component}

from dagster_glue import ComputeResource


@dg.component_instance
def load(context: dg.ComponentLoadContext) -> {component}:
    return {component}(
        payload="payload.py",
        assets=[dg.AssetSpec("{asset}")],
        {compute},
    )
"""


class RayPayloadParams(BaseModel):
    """Options of `dg scaffold`."""

    resource_key: str | None = Field(
        default=None,
        description="The project's ComputeResource to run on; default: one of its own, in mode "
        "local.",
    )


class RayPayloadScaffolder(dg.Scaffolder[RayPayloadParams]):
    """Writes the component's description and a payload for it."""

    @classmethod
    def get_scaffold_params(cls) -> type[RayPayloadParams]:
        return RayPayloadParams

    def scaffold(self, request: dg.ScaffoldRequest[RayPayloadParams]) -> None:
        folder = request.target_path.parent if request.append else request.target_path
        asset = re.sub(r"\W+", "_", folder.name)
        if request.append:  # to a file of several components
            asset += f"_{request.target_path.read_text().count('type:') + 1}"
        key = request.params.resource_key
        script = folder / "payload.py"
        if not script.exists():
            script.write_text(_SCRIPT)
        if request.scaffold_format == "yaml":
            runs_on: dict[str, Any] = {"compute": {"mode": "local"}}
            if key is not None:
                runs_on = {"resource_key": key}
            attributes = {"payload": "payload.py", "assets": [{"key": asset}], **runs_on}
            dg.scaffold_component(request, attributes)
            return
        module, _, component = request.type_name.rpartition(".")
        own = 'compute=ComputeResource(mode="local")'
        (folder / "component.py").write_text(
            _PYTHON.format(
                module=module,
                component=component,
                asset=asset,
                compute=own if key is None else f'resource_key="{key}"',
            )
        )
