"""A chain of assets in one Dagster run, with the moments of each step.

The same for both packages, and so without an import of either: it runs in the peer's environment
too. (Dagster reads the annotation of ``context``, which therefore must not be postponed.)
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

_ENDS = ("STEP_SUCCESS", "STEP_FAILURE")


def run_chain(
    plan: Mapping[str, Any],
    compute: Any,
    run: Callable[[dg.AssetExecutionContext, Any, dict[str, str]], Any],
) -> None:
    """Materialize ``plan["assets"]`` assets one after the other and write ``plan["result"]``.

    ``run`` runs the payload for one asset, with these variables.
    """
    names = [f"asset_{number}" for number in range(plan["assets"])]
    assets = [_asset(name, names[: names.index(name)][-1:], plan, run) for name in names]
    with tempfile.TemporaryDirectory() as folder:
        instance = dg.DagsterInstance.local_temp(folder)
        done = dg.materialize(assets, instance=instance, resources={"compute": compute})
        steps = {name: _moments(instance, done.run_id, name) for name in names}
    Path(plan["result"]).write_text(json.dumps({"success": done.success, "steps": steps}))
    sys.exit(0 if done.success else 1)


def _asset(
    name: str,
    before: list[str],
    plan: Mapping[str, Any],
    run: Callable[[dg.AssetExecutionContext, Any, dict[str, str]], Any],
) -> dg.AssetsDefinition:
    @dg.asset(name=name, deps=before, required_resource_keys={"compute"})
    def asset(context: dg.AssetExecutionContext) -> Any:
        moments = os.path.join(plan["moments"], f"{name}.json")
        done = run(context, context.resources.compute, {"BENCH_MOMENTS": moments})
        yield from done.get_results()

    return asset


def _moments(instance: dg.DagsterInstance, run_id: str, step: str) -> dict[str, Any]:
    """Start and end of a step, and what was said meanwhile, in epoch seconds."""
    found: dict[str, Any] = {"said": []}
    for entry in instance.all_logs(run_id):
        if entry.step_key != step:
            continue
        kind = entry.dagster_event.event_type_value if entry.dagster_event else ""
        if kind == "STEP_START":
            found["start"] = entry.timestamp
        elif kind in _ENDS:
            found["end"] = entry.timestamp
        found["said"].append([entry.timestamp, kind or entry.user_message[:120]])
    return found
